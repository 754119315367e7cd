"""How requests reach the provider, and how its replies are read."""
