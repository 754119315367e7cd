"""The vocabulary of the whole package: it imports nothing above itself and does no I/O."""
