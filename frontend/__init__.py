"""The process that owns every socket: listeners, client connections, lanes, and the dispatcher.

It also starts, watches and replaces the reactor processes, and holds the `reactor-run` command.
This room never imports the user's app, and knows nothing of ASGI, WSGI or `reactor_run.reactor`:
the two processes meet only at file descriptors.
"""
