"""A language model in a process beside the run: llama.cpp, started and stopped as the embedded sandbox is."""
