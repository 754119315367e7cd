"""How a row becomes a request: templates, field checks, local files and answer formats."""
