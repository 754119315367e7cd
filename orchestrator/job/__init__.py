"""The job file, and how the rows of its input become requests."""
