"""Apps that the tests serve: each route shows, or provokes, one behaviour of the server."""
