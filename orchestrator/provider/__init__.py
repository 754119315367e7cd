"""The wire: how a request reaches the provider, and what its answers mean."""
