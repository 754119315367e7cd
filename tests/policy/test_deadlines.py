"""When a response is given up, and until when a run sends new requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.polling.deadlines import (
    CANCEL_GRACE_S,
    Timeouts,
    gives_up_at,
    grace_expired,
    may_send,
    overdue,
)

HOUR = 3600.0
TIMEOUTS = Timeouts(queued_s=HOUR, run_s=6 * HOUR)
ACCEPTED = 1_764_158_832.25


@pytest.mark.parametrize(
    ("status", "waited_s", "code"),
    [
        ("queued", HOUR - 1, None),
        ("queued", HOUR, "queued_timeout"),
        ("pending", HOUR, "queued_timeout"),
        ("in_progress", HOUR, None),
        ("in_progress", 6 * HOUR - 1, None),
        ("in_progress", 6 * HOUR, "run_timeout"),
        ("", 6 * HOUR, "run_timeout"),
        ("a word of next year", 5 * HOUR, None),
        ("a word of next year", 6 * HOUR, "run_timeout"),
    ],
)
def test_a_response_is_given_up_by_its_status(status: str, waited_s: float, code: str | None) -> None:
    assert overdue(status, accepted_at=ACCEPTED, now=ACCEPTED + waited_s, timeouts=TIMEOUTS) == code


def test_a_shorter_run_timeout_also_applies_to_a_queued_response() -> None:
    short = Timeouts(queued_s=HOUR, run_s=60)
    assert overdue("queued", accepted_at=ACCEPTED, now=ACCEPTED + 60, timeouts=short) == "run_timeout"


@pytest.mark.parametrize(
    ("window", "extra_s"),
    [("2h", 2 * HOUR), ("8h", 8 * HOUR), ("30m", 1800), ("soonest", 0), (None, 0), ("", 0), ("2 hours", 0), ("h", 0)],
)
def test_a_completion_window_is_added_to_the_timeouts(window: str | None, extra_s: float) -> None:
    scaled = TIMEOUTS.scaled(window)
    assert scaled == Timeouts(queued_s=HOUR + extra_s, run_s=6 * HOUR + extra_s)
    until = ACCEPTED + HOUR + extra_s
    assert overdue("queued", accepted_at=ACCEPTED, now=until - 1, timeouts=TIMEOUTS, window=window) is None
    assert overdue("queued", accepted_at=ACCEPTED, now=until, timeouts=TIMEOUTS, window=window) == "queued_timeout"


@given(
    st.one_of(st.sampled_from(["queued", "in_progress"]), st.text()),
    st.floats(0, 4e9),
    st.floats(0.001, 1e7),
    st.floats(0.001, 1e7),
    st.one_of(st.sampled_from([None, "2h", "8h", "soonest"]), st.text()),
    st.floats(0, 1),
)
def test_each_response_is_overdue_at_the_computed_time(
    status: str, accepted_at: float, queued_s: float, run_s: float, window: str | None, part: float
) -> None:
    timeouts = Timeouts(queued_s=queued_s, run_s=run_s)
    at = gives_up_at(status, accepted_at=accepted_at, timeouts=timeouts, window=window)
    assert overdue(status, accepted_at=accepted_at, now=at, timeouts=timeouts, window=window) is not None
    before = accepted_at + (at - accepted_at) * part
    if before < at:
        assert overdue(status, accepted_at=accepted_at, now=before, timeouts=timeouts, window=window) is None


def test_a_clock_that_was_set_back_gives_no_response_up() -> None:
    assert overdue("queued", accepted_at=ACCEPTED, now=ACCEPTED - HOUR, timeouts=TIMEOUTS) is None


def test_a_response_that_survives_its_cancellation_is_abandoned_after_the_grace() -> None:
    assert not grace_expired(cancelled_at=ACCEPTED, now=ACCEPTED + CANCEL_GRACE_S - 1)
    assert grace_expired(cancelled_at=ACCEPTED, now=ACCEPTED + CANCEL_GRACE_S)
    assert grace_expired(cancelled_at=ACCEPTED, now=ACCEPTED + 1, grace_s=1)


def test_no_new_request_is_sent_after_the_deadline() -> None:
    assert may_send(99.9, 100)
    assert not may_send(100, 100)
    assert may_send(1e12, None)
