"""What the kernel grants: addresses, listeners, networks, and resource limits."""
