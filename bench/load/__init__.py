"""What puts load on a server and says what it saw. Knows no server by name."""
