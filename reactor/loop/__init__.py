"""The loops of a reactor, and the differences between the async runtimes."""
