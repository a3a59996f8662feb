"""Routes: which part of the service answers a request, by its host and its path."""
