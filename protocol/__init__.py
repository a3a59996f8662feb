"""What bytes mean: HTTP/1.1 heads and bodies, PROXY headers, and the policy of what is refused.

Sans-I/O: bytes in, meaning out. This room knows no socket, no clock and no async framework. The
front end and the reactors both use it, so that they can never disagree about where a request ends.
"""
