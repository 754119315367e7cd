"""How a run is shown: pure functions from what the store holds to text, tables and files."""
