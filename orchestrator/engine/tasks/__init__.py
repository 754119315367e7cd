"""The concurrent tasks of a run: each decides when a step is called."""
