"""The faults of the sandbox: which ones a call gets, and what each does to the reply."""
