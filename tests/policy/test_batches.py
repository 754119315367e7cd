"""Batches: what goes into one, when it closes, what may be enqueued, when it is looked at, how it ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.problems import BatchError
from orchestrator.policy.batches.batch_durations import BatchDurations, next_poll_at
from orchestrator.policy.batches.batch_verdicts import (
    Collect,
    OverTokenLimit,
    StillOpen,
    Unusable,
    WrongLines,
    judge_batch,
)
from orchestrator.policy.batches.enqueued_tokens import EnqueuedTokens
from orchestrator.policy.batches.forming import BatchLimits, BatchSize, closes_at, has_room

LIMITS = BatchLimits(max_lines=3, max_bytes=100, enqueued_tokens=80)


def size(lines: int = 1, bytes_: int = 1, tokens: int = 1) -> BatchSize:
    return BatchSize(lines=lines, bytes=bytes_, tokens=tokens)


@pytest.mark.parametrize(
    ("held", "line", "fits"),
    [
        (size(0, 0, 0), size(1, 1000, 1000), True),
        (size(2), size(), True),
        (size(3), size(), False),
        (size(1, 60), size(1, 40), True),
        (size(1, 60), size(1, 41), False),
        (size(1, 1, 20), size(1, 1, 20), True),
        (size(1, 1, 20), size(1, 1, 21), False),
    ],
)
def test_a_line_fits_within_every_limit_and_the_first_one_always(
    held: BatchSize, line: BatchSize, fits: bool
) -> None:
    assert has_room(held, line, LIMITS) is fits


@pytest.mark.parametrize(
    ("lines", "drained", "next_due_at", "at"),
    [
        (0, False, None, 100.0),
        (1, True, None, 100.0),
        (1, False, None, 120.0),
        (1, False, 119.0, 120.0),
        (1, False, 121.0, 100.0),
    ],
)
def test_a_batch_waits_only_for_what_is_on_its_way(
    lines: int, drained: bool, next_due_at: float | None, at: float
) -> None:
    assert closes_at(size(lines), first_at=90.0, now=100.0, drained=drained, next_due_at=next_due_at) == at


def test_a_refusal_lowers_what_may_be_enqueued_until_one_has_ended() -> None:
    tokens = EnqueuedTokens(1_000_000)
    for each in (400_000, 400_000):
        assert tokens.has_room("m", each, 0.0)
        tokens.add("m", each)
    assert not tokens.has_room("m", 400_000, 0.0)
    assert tokens.has_room("other", 400_000, 0.0)
    again_at = tokens.refused("m", 400_000, 0.0)
    assert tokens.limit("m") == 400_000
    assert not tokens.has_room("m", 100_000, again_at - 1)
    tokens.ended("m", 400_000, taken=True)
    assert tokens.has_room("m", 100_000, 1.0), "the end of another one frees the tokens"
    assert tokens.limit("m") == 420_000


def test_refusals_in_a_row_wait_longer_and_never_for_ever() -> None:
    tokens, waits = EnqueuedTokens(1_000_000), []
    for _ in range(12):
        tokens.add("m", 50_000)
        waits.append(tokens.refused("m", 50_000, 0.0))
    assert waits[:3] == [60, 120, 240]
    assert waits[-1] == 1800
    assert tokens.limit("m") == 25_000
    assert tokens.enqueued("m") == 0
    assert tokens.has_room("m", 10**9, 1800.0), "one alone is always tried"


@given(st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), max_size=30))
def test_what_is_enqueued_is_never_more_than_the_limit(batches: list[tuple[int, bool]]) -> None:
    tokens, open_ = EnqueuedTokens(2 * 10**6), list[int]()
    for wanted, ends in batches:
        if tokens.has_room("m", wanted, 0.0):
            tokens.add("m", wanted)
            open_.append(wanted)
        if ends and open_:
            tokens.ended("m", open_.pop(0), taken=True)
        assert tokens.enqueued("m") == sum(open_) <= tokens.limit("m")


@pytest.mark.parametrize("learned", [{}, {"m": "x"}, {"m": True}, {"m": -1}, {"m": 10**12}, {"m": None}])
def test_what_cannot_have_been_learned_is_ignored(learned: dict[str, Any]) -> None:
    tokens, durations = EnqueuedTokens(1000), BatchDurations()
    tokens.load(learned)
    durations.load({"m": ["x", None, True], **learned})
    assert (tokens.limit("m"), durations.of("m")) == (1000, [])


def test_what_was_learned_is_taken_over() -> None:
    tokens, durations = EnqueuedTokens(10**6), BatchDurations()
    tokens.add("m", 100_000)
    tokens.refused("m", 100_000, 0.0)
    for seconds in range(60):
        durations.ended("m", seconds)
    again, others = EnqueuedTokens(10**6), BatchDurations()
    again.load(tokens.dump())
    others.load(durations.dump())
    assert again.limit("m") == 50_000
    assert others.of("m") == list(range(10, 60))


def test_polls_grow_rare_and_a_day_takes_few_of_them() -> None:
    now, polls = 0.0, 0
    while now < 86_400:
        now, polls = next_poll_at(now, 0.0, []), polls + 1
    assert polls < 400
    assert next_poll_at(5.0, 0.0, []) == 6.0
    assert next_poll_at(10_000.0, 0.0, []) == 10_300.0


def test_no_poll_comes_before_any_batch_has_ended() -> None:
    assert next_poll_at(1.0, 0.0, [300.0, 100.0]) == 80.0
    assert next_poll_at(1.0, 0.0, [9_000.0]) == 301.0, "but it may fail early"
    assert next_poll_at(200.0, 0.0, [100.0]) == 220.0


ERROR = BatchError(code="invalid_request", message="wrong", line=2)


@pytest.mark.parametrize(
    ("status", "errors", "verdict"),
    [
        ("completed", [], Collect()),
        ("expired", [], Collect()),
        ("cancelled", [ERROR], Collect()),
        ("validating", [], StillOpen()),
        ("in_progress", [], StillOpen()),
        ("finalizing", [], StillOpen()),
        ("cancelling", [], StillOpen()),
        ("something new", [], StillOpen()),
        ("failed", [BatchError(code="token_limit_exceeded")], OverTokenLimit()),
        ("failed", [ERROR, BatchError(line=9)], WrongLines({2: ERROR})),
        (
            "failed",
            [BatchError(line=0)],
            Unusable("batch_refused", "the provider refused the batch without a reason"),
        ),
        ("failed", [BatchError(code="x", message="why")], Unusable("x", "why")),
        ("failed", [], Unusable("batch_refused", "the provider refused the batch without a reason")),
    ],
)
def test_a_batch_is_judged_by_status_and_errors(status: str, errors: list[BatchError], verdict: object) -> None:
    assert judge_batch(status, errors, lines=3) == verdict
