"""One line for each request."""
