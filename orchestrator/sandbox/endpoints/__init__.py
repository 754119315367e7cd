"""What each HTTP call does: one file per group of paths."""
