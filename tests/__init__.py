"""One folder for each room, and `integration` with real processes and real tools around them."""
