"""The reactor's ends of what carries exchanges: the express lane, lanes, and the gateway."""
