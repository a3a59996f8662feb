"""WSGI (PEP 3333): the call, its answer, its input, its threads."""
