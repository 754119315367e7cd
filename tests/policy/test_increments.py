"""Which rows a night asks, and why."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.increments import ASKED, Change, ComparedRow, DatasetEntry
from orchestrator.policy.increments import (
    IncrementRules,
    change_of,
    falls_due_after,
    reuse_max_age_s,
    shrank_too_much,
)

DAY_S = 86_400.0


def an_entry(
    *, answered_at: float | None = 0.0, failed_nights: int = 0, key: str = "a", as_of: int = 0
) -> DatasetEntry:
    row = ComparedRow(row_hash=b"r", stage_hash=b"s", request_hash=b"q")
    return DatasetEntry(id=1, key=key, row=row, answered_at=answered_at, failed_nights=failed_nights, as_of=as_of)


def compared(
    entry: DatasetEntry | None,
    *,
    row: bool = True,
    stage: bool = True,
    request: bool = False,
    now: float = 0.0,
    **rules: object,
) -> Change:
    return change_of(
        entry,
        same_row=row,
        same_stage=stage,
        same_request=lambda: request,
        rules=IncrementRules(**rules),  # type: ignore[arg-type]
        now=now,
    )


def test_each_change_by_its_cause() -> None:
    assert compared(None) is Change.NEW
    assert compared(an_entry()) is Change.UNCHANGED
    assert compared(an_entry(), row=False) is Change.CHANGED
    assert compared(an_entry(), row=False, stage=False) is Change.CHANGED
    assert compared(an_entry(), stage=False) is Change.REQUEST_CHANGED
    assert compared(an_entry(), row=False, stage=False, request=True) is Change.UNCHANGED
    assert compared(an_entry(answered_at=None, failed_nights=1)) is Change.FAILED_BEFORE
    assert compared(an_entry(), full_refresh=True) is Change.DUE_AGAIN


def test_a_row_of_a_later_day_is_kept() -> None:
    later = an_entry(as_of=2)
    assert compared(later, as_of=2, row=False) is Change.CHANGED
    assert compared(later, as_of=1, row=False) is Change.SUPERSEDED
    assert compared(later, as_of=1, stage=False) is Change.SUPERSEDED
    assert compared(later, as_of=1, row=False, request=True) is Change.UNCHANGED
    assert compared(later, as_of=1, full_refresh=True) is Change.UNCHANGED
    assert compared(an_entry(as_of=2, answered_at=None), as_of=1, row=False) is Change.SUPERSEDED


def test_a_row_is_given_up_until_it_or_its_request_changes() -> None:
    failed = an_entry(answered_at=None, failed_nights=3)
    assert compared(failed, give_up_after=4) is Change.FAILED_BEFORE
    assert compared(failed, give_up_after=3) is Change.GIVEN_UP
    assert compared(failed, give_up_after=3, row=False) is Change.CHANGED
    assert compared(failed, give_up_after=3, stage=False) is Change.FAILED_BEFORE
    assert compared(failed, give_up_after=3, full_refresh=True) is Change.FAILED_BEFORE


@given(st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 0.0, -100 * DAY_S]))
def test_a_row_whose_request_was_answered_is_never_asked_without_a_rule(
    row: bool, stage: bool, request: bool, answered_at: float | None
) -> None:
    change = compared(an_entry(answered_at=answered_at), row=row, stage=stage, request=request)
    same = (row and stage) or request
    assert (change in ASKED) is not (same and answered_at is not None)


@given(st.text(min_size=1), st.floats(1, 400 * DAY_S))
def test_answers_fall_due_within_the_last_fifth_of_their_time(key: str, after_s: float) -> None:
    due_s = falls_due_after(key, after_s)
    assert 0.8 * after_s <= due_s <= after_s
    assert compared(an_entry(key=key), now=due_s, ask_again_after_s=after_s) is Change.DUE_AGAIN
    assert compared(an_entry(key=key), now=due_s * 0.99, ask_again_after_s=after_s) is Change.UNCHANGED
    # An answer that is due is never taken in place of asking again.
    taken_s = reuse_max_age_s(IncrementRules(ask_again_after_s=after_s))
    assert taken_s is not None
    assert taken_s <= due_s


def test_keys_fall_due_on_different_nights() -> None:
    nights = {int(falls_due_after(f"row-{n}", 90 * DAY_S) // DAY_S) for n in range(1_000)}
    assert len(nights) >= 17


def test_a_full_refresh_takes_no_answer() -> None:
    assert reuse_max_age_s(IncrementRules(full_refresh=True)) is None


def test_more_missing_rows_than_allowed() -> None:
    assert not shrank_too_much(20, 100, 0.2)
    assert shrank_too_much(21, 100, 0.2)
    assert not shrank_too_much(100, 100, 1.0)
    assert not shrank_too_much(0, 0, 0.0)
