"""WSGI (PEP 3333): the call of the app, its answer, its input, and its threads."""
