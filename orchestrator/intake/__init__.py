"""A job file and its input become requests: spec, rows, templates, plan."""
