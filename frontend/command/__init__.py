"""What the operator types: the command line, the environment, and the remote commands."""
