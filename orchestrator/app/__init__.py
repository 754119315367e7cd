"""The Python API, and one module or folder for each use case beside running a job."""
