"""The apps that are measured. Without a framework unless a module says so, so that what is seen is
the servers; the same bytes by ASGI and by WSGI."""
