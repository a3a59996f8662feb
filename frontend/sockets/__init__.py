"""Sockets and limits from the kernel: addresses, listeners, networks, open files."""
