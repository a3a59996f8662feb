"""Files of a directory: finds one for a path, opens it safely, and says what to send of it."""
