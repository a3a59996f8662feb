"""The reactor processes: their links, their lives, and their replacement."""
