"""Shows runs: pure functions from stored values to text, tables and files."""
