"""reactor-run: serve ASGI and WSGI apps from a front end that hands requests to reactor processes.

Three rooms, which meet only here: `reactor_run.protocol` (what bytes mean), `reactor_run.frontend`
(the process that owns the sockets) and `reactor_run.reactor` (the process that runs the app).
"""

__version__ = "0.1.0"
