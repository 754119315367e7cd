"""The charges of runs compared with the provider's own account."""
