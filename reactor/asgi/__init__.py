"""ASGI: HTTP exchanges and the app's lifespan."""
