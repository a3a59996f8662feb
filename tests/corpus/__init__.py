"""The corpus: what clients send, and the result. README.md tells how to add a case."""
