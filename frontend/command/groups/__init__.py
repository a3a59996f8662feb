"""The settings, a file for each group of them."""
