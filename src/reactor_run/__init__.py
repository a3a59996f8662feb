"""reactor-run serves ASGI and WSGI apps: a front end hands requests to reactor processes.

It has three packages: `reactor_run.protocol` (the meaning of bytes), `reactor_run.frontend` (the
process that owns the sockets) and `reactor_run.reactor` (the process that runs the app). The
modules beside this one belong to both processes.
"""

__version__ = "0.1.0"
