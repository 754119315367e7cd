"""What changed of a row since it was answered, and what a dataset holds of it."""

from __future__ import annotations

from collections import Counter
from datetime import date
from enum import StrEnum
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars

__all__ = [
    "ASKED",
    "Change",
    "Changes",
    "ComparedRow",
    "Comparison",
    "DatasetEntry",
    "NotedChange",
    "days_since_1970",
]

_FIRST_DAY = date(1970, 1, 1)


class Change(StrEnum):
    """How a row compares with the dataset."""

    NEW = "new"
    CHANGED = "changed"
    FAILED_BEFORE = "failed_before"
    DUE_AGAIN = "due_again"
    REQUEST_CHANGED = "request_changed"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    GIVEN_UP = "given_up"
    REMOVED = "removed"


# The rows that are asked; those whose request changed only if the user says so.
ASKED = frozenset({Change.NEW, Change.CHANGED, Change.FAILED_BEFORE, Change.DUE_AGAIN, Change.REQUEST_CHANGED})

Changes: TypeAlias = Counter[Change]


def days_since_1970(day: date) -> int:
    """A day as a dataset stores it."""
    return (day - _FIRST_DAY).days


@fast_dataclass
class ComparedRow:
    """What a row asks: the hash of the columns that its request uses, of all else that decides the request, and of
    the request itself; the last is None if it was not needed, or if the request can not be compared.
    """

    row_hash: bytes
    stage_hash: bytes
    request_hash: bytes | None = None


@fast_dataclass
class DatasetEntry:
    """What a dataset holds of one row. ``answered_at`` is None if the row has no answer that holds; ``as_of`` is the
    day of the row, in days since 1970-01-01.
    """

    id: int
    key: str
    row: ComparedRow
    answered_at: float | None
    failed_nights: int = 0
    removed: bool = False
    as_of: int = 0


@fast_dataclass
class NotedChange:
    """Why a run asks a row, and what it asks."""

    key: str
    change: Change
    row: ComparedRow


@fast_dataclass
class Comparison:
    """How the rows of a job compare with its dataset, which was last added to by the run ``since``.

    The ``asked`` rows cost ``about_pusd`` if each costs as much as a row of the latest run that asked any; None if no
    run did.
    """

    dataset: str
    since: str
    changes: Changes
    asked: int
    about_pusd: Picodollars | None
