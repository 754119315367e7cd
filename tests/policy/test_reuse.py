"""What a request does when another run asks the same."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.states import IN_FLIGHT, OPEN, SETTLED, State
from orchestrator.policy.reuse import Reuse, reuse, usable_since

STATES = st.sampled_from([*State])
FINGERPRINTS = st.binary(min_size=16, max_size=16)
DAY = 86_400.0


@given(STATES, st.booleans())
def test_what_may_have_been_paid_for_is_never_sent_at_once(state: State, at_work: bool) -> None:
    how = reuse(state, at_work=at_work)
    if state in OPEN or state is State.SUCCEEDED:
        assert how is not Reuse.SEND
    if how is Reuse.SEND:
        assert state in (State.FAILED, State.CANCELLED, State.PENDING, State.BLOCKED)


@given(STATES, st.booleans())
def test_a_response_is_taken_over_only_if_no_process_works_on_it(state: State, at_work: bool) -> None:
    how = reuse(state, at_work=at_work)
    if how in (Reuse.ADOPT, Reuse.RESOLVE):
        assert not at_work
        assert state in OPEN
    if how is Reuse.WAIT:
        assert at_work
        assert state not in SETTLED


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
def test_a_request_in_doubt_waits_for_the_operator_alone(state: State) -> None:
    held = {at_work for at_work in (True, False) if reuse(state, at_work=at_work) is Reuse.HOLD}
    assert held == ({True, False} if state is State.IN_DOUBT else set())


def test_an_answer_comes_first_and_sending_last() -> None:
    assert min(Reuse, key=lambda how: how.rank) is Reuse.TAKE
    assert max(Reuse, key=lambda how: how.rank) is Reuse.SEND


@given(st.floats(0, 4e9), st.floats(1, 1e9), FINGERPRINTS)
def test_no_answer_is_used_beyond_its_age_nor_given_up_before_most_of_it(
    now: float, age_s: float, fingerprint: bytes
) -> None:
    since = usable_since(now, age_s, fingerprint)
    assert now - age_s <= since <= now - 0.8 * age_s + 1e-6 * (now + 1)
    assert since == usable_since(now, age_s, fingerprint)


def test_the_answers_of_one_night_expire_over_many() -> None:
    requests = [hashlib.blake2b(b"%d" % number, digest_size=16).digest() for number in range(3_000)]
    expired = [sum(usable_since(day * DAY, 30 * DAY, each) > 0 for each in requests) for day in range(23, 32)]
    nights = [after - before for before, after in pairwise(expired)]
    assert expired[0] == 0
    assert expired[-1] == len(requests)
    assert max(nights) < len(requests) / 4
    assert sum(night > 0 for night in nights) >= 6


@pytest.mark.parametrize("state", [State.SUBMITTING, State.SUBMITTED])
def test_a_line_of_a_batch_is_left_to_its_own_run(state: State) -> None:
    assert reuse(state, at_work=False, in_batch=True) is Reuse.HOLD
    assert reuse(state, at_work=True, in_batch=True) is Reuse.WAIT
    assert reuse(State.SUCCEEDED, at_work=False, in_batch=True) is Reuse.TAKE
