"""Where clients and reactors meet: exchanges, the queue, and retries."""
