"""Benchmarks: what a row costs, in CPU, memory, polls and waiting, beside the least that Python can do."""
