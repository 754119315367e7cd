"""Measures the package by reading its text: ``python -m tests.structure`` prints what the tests here bound."""
