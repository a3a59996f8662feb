"""The reactor process, which runs the app.

It has the reactor's ends of the lanes, the loops, and the ASGI and WSGI interfaces.

This package knows exchanges, but no client connections: it has no listener, no queue and no other
reactor. It imports nothing of `reactor_run.frontend`. The two processes share only file
descriptors.
"""
