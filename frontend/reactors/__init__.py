"""The reactor processes: their start, their links, their end and their replacement."""
