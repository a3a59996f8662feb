"""ASGI: HTTP exchanges and the lifespan."""
