"""Reloads when files change (`--reload`): a process that watches them, and the front end's end."""
