"""A model on this machine in place of a server."""
