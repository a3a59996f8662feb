"""The loops: of workers for ASGI apps, of calls for WSGI apps; what differs between runtimes."""
