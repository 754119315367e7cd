"""YAML documents with line numbers, and the validation problems found in them."""
