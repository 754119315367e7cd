"""Writes the parts of the documentation that come from the code: ``python -m docs.generator``."""
