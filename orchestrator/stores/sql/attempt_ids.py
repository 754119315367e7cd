"""The ids of attempts: request_id * 1000000 + number, as in the schema and the SQL; no other package may know it."""

from __future__ import annotations

__all__ = ["attempt_id_of", "number_of", "request_id_of"]

_PER_REQUEST = 1_000_000


def attempt_id_of(request_id: int, number: int) -> int:
    """The id of a request's attempt, by its number, which counts from 1."""
    return request_id * _PER_REQUEST + number


def number_of(attempt_id: int) -> int:
    """The attempt's number among those of its request."""
    return attempt_id % _PER_REQUEST


def request_id_of(attempt_id: int) -> int:
    """The request that an attempt belongs to."""
    return attempt_id // _PER_REQUEST
