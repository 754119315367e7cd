"""The calls that the sandbox serves, by subject."""
