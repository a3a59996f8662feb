"""The process that runs the app: its ends of the lanes, the loops, ASGI, WSGI, lifespan.

This room knows exchanges, never client connections: no listener, no queue, no other reactor, and
nothing of `reactor_run.frontend`. The two processes meet only at file descriptors.
"""
