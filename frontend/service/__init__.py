"""Composition and operation: the server, its start and stop, and its reports."""
