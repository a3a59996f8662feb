"""The meaning of bytes: HTTP/1.1 heads and bodies, PROXY headers, and the policy on bad requests.

This package does no I/O: it takes bytes and returns what they mean. It knows no socket, no clock
and no async framework. The front end and the reactors both use it, so they always agree on where a
request ends.
"""
