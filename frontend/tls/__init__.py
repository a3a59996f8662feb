"""The certificates of the service: files, keys, names, and which one a client gets."""
