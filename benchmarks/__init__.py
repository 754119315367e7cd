"""Benchmarks: what a row costs in CPU, memory, polls and waiting, compared with the least that Python can do."""
