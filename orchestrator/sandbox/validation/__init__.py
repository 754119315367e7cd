"""What the sandbox refuses, as the API would: fields, tools, items and conversations."""
