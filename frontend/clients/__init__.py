"""The client connections: accepting, reading requests, writing answers, closing."""
