"""The command line: parse, call the Python API, print; no rules of its own."""
