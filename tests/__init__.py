"""The tests: one folder for each package, and `integration` with real processes and real tools."""
