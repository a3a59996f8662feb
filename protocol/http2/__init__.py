"""HTTP/2 (RFC 9113): its frames, by a library, and its translation from and to HTTP/1.1."""
