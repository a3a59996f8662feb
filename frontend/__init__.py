"""The front-end process, which owns every socket: listeners, client connections and lanes.

It dispatches requests, starts, watches and replaces the reactor processes, and has the
`reactor-run` command. This package never imports the user's app, and knows nothing of ASGI, WSGI or
`reactor_run.reactor`. The two processes meet only at file descriptors.
"""
