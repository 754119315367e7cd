"""The state table: walked, because documentation, store and engine all trust it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.states import OPEN, SETTLED, TRANSITIONS, Event, State, move

EVENTS = st.lists(st.sampled_from(list(Event)), max_size=40)


def reachable_from(start: State, *, without: frozenset[Event] = frozenset()) -> set[State]:
    seen, new = {start}, [start]
    while new:
        state = new.pop()
        for (source, event), target in TRANSITIONS.items():
            if source is state and event not in without and target not in seen:
                seen.add(target)
                new.append(target)
    return seen


OPERATOR = frozenset({Event.REQUEUE, Event.BLOCK})
WAITING = {State.PENDING, State.BLOCKED}


def test_every_state_is_waiting_open_or_settled() -> None:
    assert set(State) == WAITING | OPEN | SETTLED
    assert not OPEN & SETTLED


def test_every_state_can_be_reached() -> None:
    assert reachable_from(State.PENDING) == set(State)


def test_every_event_has_a_use() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize("state", sorted(WAITING | OPEN))
@pytest.mark.parametrize("end", sorted(SETTLED))
def test_every_request_that_is_not_settled_can_come_to_every_end(state: State, end: State) -> None:
    assert end in reachable_from(state)


@pytest.mark.parametrize("event", list(Event))
def test_nothing_leaves_succeeded(event: Event) -> None:
    with pytest.raises(IllegalTransition):
        move(State.SUCCEEDED, event)


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_only_an_operators_decision_leaves_a_settled_state(state: State) -> None:
    leaving = {event for source, event in TRANSITIONS if source is state}
    assert leaving <= OPERATOR
    assert reachable_from(state, without=OPERATOR) == {state}


def test_a_request_is_sent_only_after_its_intent_is_on_disk() -> None:
    assert {target for (source, _), target in TRANSITIONS.items() if source is State.PENDING} == {
        State.SUBMITTING,
        State.BLOCKED,
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
    }
    assert {source for (source, _), target in TRANSITIONS.items() if target is State.SUBMITTING} == {State.PENDING}


def test_only_an_accepted_response_succeeds_or_a_request_that_shares_its_answer() -> None:
    assert {source for (source, _), target in TRANSITIONS.items() if target is State.SUCCEEDED} == {
        State.SUBMITTED,
        State.PENDING,
        State.BLOCKED,
    }
    assert {event for (_, event), target in TRANSITIONS.items() if target is State.SUBMITTED} == {Event.ACCEPT}


def test_doubt_arises_only_while_a_create_is_in_flight() -> None:
    assert {source for (source, _), target in TRANSITIONS.items() if target is State.IN_DOUBT} == {State.SUBMITTING}


def test_an_impossible_move_names_state_and_event() -> None:
    with pytest.raises(IllegalTransition, match="'succeeded' cannot 'retry'") as caught:
        move(State.SUCCEEDED, Event.RETRY)
    assert (caught.value.state, caught.value.event) == (State.SUCCEEDED, Event.RETRY)


@given(EVENTS)
def test_no_walk_settles_a_request_twice_without_the_operator(events: list[Event]) -> None:
    state = State.PENDING
    settled_as: State | None = None
    for event in events:
        try:
            new = move(state, event)
        except IllegalTransition:
            continue
        if event in OPERATOR:
            assert state in {State.FAILED, State.CANCELLED}
            settled_as = None
        else:
            assert settled_as is None
        if new in SETTLED:
            settled_as = new
        state = new
    assert settled_as is None or state is settled_as


@given(EVENTS)
def test_every_walk_can_still_end(events: list[Event]) -> None:
    state = State.PENDING
    for event in events:
        state = TRANSITIONS.get((state, event), state)
    assert reachable_from(state) & SETTLED
