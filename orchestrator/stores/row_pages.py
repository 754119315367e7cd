"""What the web view reads beside runs, histories and costs: pages of rows, and rows of two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.core.states import State
from orchestrator.stores.pulses import Pulse
from orchestrator.stores.reads import ResultRecord, Summary

__all__ = [
    "COMPARED_CHARACTERS",
    "ComparedRows",
    "ComparisonPage",
    "Differing",
    "PageReader",
    "RowFilter",
    "RowOrder",
    "RowPage",
    "RowPlace",
    "UsedPrice",
]


# Of the answers of rows that are compared.
COMPARED_CHARACTERS = 3_000


@fast_dataclass
class RowFilter:
    """Which rows of a run; None means any. ``text`` is searched for in keys, codes, messages and answers."""

    states: tuple[State, ...] | None = None
    code: str | None = None
    stage: str | None = None
    flag: str | None = None
    text: str | None = None


class RowOrder(StrEnum):
    """By what rows are sorted, the highest first."""

    COST = "cost"
    LATENCY = "latency"
    TOKENS = "tokens"


class Differing(StrEnum):
    """Which rows of two runs are compared."""

    ALL = "all"
    ANSWERS = "answers"
    OUTCOMES = "outcomes"


@fast_dataclass
class RowPlace:
    """Where a page begins: after a request in the order of the input, or before one and backward."""

    request_id: int = 0
    backward: bool = False


@fast_dataclass
class RowPage:
    """Rows in the order of the input, their answers cut to the beginning.

    ``more_before`` and ``more_after`` say whether there may be others. ``searched_to`` is set if the page is not
    full because the search was interrupted: it continues from that request.
    """

    rows: Sequence[ResultRecord]
    more_before: bool
    more_after: bool
    searched_to: int | None = None


@fast_dataclass
class ComparedRows:
    """One key in two runs; ``other`` is None if the second run has no such row."""

    one: ResultRecord
    other: ResultRecord | None


@fast_dataclass
class ComparisonPage:
    """Rows of two runs, in the order of the first one's input; see ``RowPage``."""

    rows: Sequence[ComparedRows]
    more_before: bool
    more_after: bool
    searched_to: int | None = None


@fast_dataclass
class UsedPrice:
    """Unit prices that charges of a run follow from, in picodollars a token, and how many do."""

    model: str
    tier: str
    input: Picodollars
    cached: Picodollars
    output: Picodollars
    source: str
    version: str
    charges: int


class PageReader(Protocol):
    """Reads what a page shows, in a time that does not grow with the run.

    A search ends at the first page that is full, or soon after ``within_s``: then the page says where it stopped.
    """

    async def run_page(self, *, before_id: int | None, limit: int) -> list[Summary]:
        """Runs with their counts, the newest first, from before a run."""
        ...

    async def row_page(
        self, run_id: int, chosen: RowFilter, place: RowPlace, *, limit: int, within_s: float
    ) -> RowPage: ...

    async def top_rows(self, run_id: int, chosen: RowFilter, order: RowOrder, *, limit: int) -> list[ResultRecord]:
        """The rows with the highest cost, duration or tokens, the highest first; reads the whole run."""
        ...

    async def comparison_page(
        self, run_ids: tuple[int, int], differing: Differing, place: RowPlace, *, limit: int, within_s: float
    ) -> ComparisonPage: ...

    async def row_name(self, run_id: int, request_id: int) -> tuple[str, str] | None:
        """The stage and the key of a request of a run."""
        ...

    async def before_in_queue(self, run_id: int, stage: str, request_id: int, *, most: int) -> int:
        """How many pending rows of a stage are sent before one, counted up to ``most``."""
        ...

    async def failures_by_code(self, run_id: int) -> dict[str, int]:
        """How many failed requests have each code, the most frequent first."""
        ...

    async def flags_of_run(self, run_id: int) -> dict[str, int]:
        """How many rows of a run have each flag, by name."""
        ...

    async def pulses(self, run_id: int, *, most: int | None = None) -> list[Pulse]:
        """The samples of a run, the oldest first; about ``most`` of them, at even distances."""
        ...

    async def latencies(self, run_id: int) -> dict[float, int]:
        """How many rows have succeeded after how many seconds, in hundredths; reads the whole run."""
        ...

    async def prices_used(self, run_id: int) -> list[UsedPrice]:
        """The prices behind the charges of a run, the most used first; reads the whole run."""
        ...
