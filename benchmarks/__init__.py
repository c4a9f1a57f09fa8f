"""What the README promises, measured; every script is run by its path."""
