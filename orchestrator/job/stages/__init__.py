"""Stages: how the rows of one stage of a pipeline become the rows of the next."""
