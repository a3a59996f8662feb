"""The corpus: what clients send, and what becomes of it. README.md tells how to add a case."""
