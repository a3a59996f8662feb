"""Composition and operation: the server, its start, its stop, and what it reports."""
