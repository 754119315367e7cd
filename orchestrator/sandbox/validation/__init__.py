"""Checks that refuse wrong requests with the errors of the provider."""
