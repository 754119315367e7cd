"""Compares a row with what a dataset holds of it: whether it must be asked, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import Change, DatasetEntry

__all__ = ["IncrementRules", "change_of", "falls_due_after", "reuse_max_age_s", "shrank_too_much"]

# The last part of ``ask_again_after`` over which rows fall due, so that they do not all do so on one night.
SPREAD = 0.2
# A hundred years.
_FOREVER_S = 100 * 365 * 86_400.0


@fast_dataclass
class IncrementRules:
    """Which rows that have an answer are asked again; ``ask_again_after_s`` and ``give_up_after`` None: never.

    ``as_of`` is the day of the rows, in days since 1970-01-01.
    """

    ask_again_after_s: float | None = None
    give_up_after: int | None = None
    full_refresh: bool = False
    as_of: int = 0


def change_of(
    entry: DatasetEntry | None,
    *,
    same_row: bool,
    same_stage: bool,
    same_request: Callable[[], bool],
    rules: IncrementRules,
    now: float,
) -> Change:
    """Returns how a row compares with its entry.

    ``same_request`` is called only if the row or its stage changed: a request that is the same in the end, after a
    renamed column or a comment, is not asked again. Neither is a row of which the dataset has one of a later day.
    """
    if entry is None:
        return Change.NEW
    same = (same_row and same_stage) or same_request()
    if entry.as_of > rules.as_of:
        return Change.UNCHANGED if same else Change.SUPERSEDED
    if not same and not same_row:
        return Change.CHANGED
    if entry.answered_at is None:
        gave_up = same and rules.give_up_after is not None and entry.failed_nights >= rules.give_up_after
        return Change.GIVEN_UP if gave_up and not rules.full_refresh else Change.FAILED_BEFORE
    if not same:
        return Change.REQUEST_CHANGED
    if rules.full_refresh or _is_due(entry.key, entry.answered_at, rules, now):
        return Change.DUE_AGAIN
    return Change.UNCHANGED


def falls_due_after(key: str, ask_again_after_s: float) -> float:
    """How many seconds after its answer a row is asked again: the rule's time, less a share that its key decides."""
    share = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64
    return ask_again_after_s * (1 - SPREAD * share)


def reuse_max_age_s(rules: IncrementRules) -> float | None:
    """How old an answer to the same request may be to be taken for a row that is asked; None if none may.

    Younger than any answer that falls due, which must be asked again.
    """
    if rules.full_refresh:
        return None
    return _FOREVER_S if rules.ask_again_after_s is None else rules.ask_again_after_s * (1 - SPREAD)


def shrank_too_much(missing: int, rows: int, at_most: float) -> bool:
    """Whether more of a dataset's rows are missing from the input than may be; ``at_most`` is a share of them."""
    return missing > at_most * rows


def _is_due(key: str, answered_at: float, rules: IncrementRules, now: float) -> bool:
    after_s = rules.ask_again_after_s
    return after_s is not None and now - answered_at >= falls_due_after(key, after_s)
