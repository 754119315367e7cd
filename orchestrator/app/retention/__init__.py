"""What is kept of a run, and how the provider's copies are deleted."""
