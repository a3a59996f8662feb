"""The reactor's ends of the express lane and of plain lanes, and the gateway to the app."""
