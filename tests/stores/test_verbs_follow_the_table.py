"""Every verb of the store, from every state: it makes the move of the state table, or it changes nothing.

The expected moves are read from the documentation, which shows the table as it was decided, so this fails as well if
the table in the package no longer says the same.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeAlias

import pytest

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.states import IN_FLIGHT, SETTLED, Event, State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Continuation, Duplicate, PendingRequest
from orchestrator.stores.writes import Ending, Leaving, Release

from .builders import NOW, Harness, a_row, a_run, mark

pytestmark = pytest.mark.anyio

_DOCUMENTED = Path(__file__).parents[2] / "docs" / "concepts" / "states.md"
_ENTRY = re.compile(r"\| `(\w+)` \| `(\w+)` \| `(\w+)` \|")
EXPECTED = {
    (State(before), Event(event)): State(after)
    for before, event, after in _ENTRY.findall(_DOCUMENTED.read_text(encoding="utf-8"))
}
# Of the states that a request may be in, those in which no response is open and nothing has ended.
UNSENT = frozenset({State.PENDING, State.BLOCKED})
ANY = frozenset(State)
CONTINUATION = Continuation(fields=b"{}", context_tokens=1)


@dataclass(frozen=True)
class Subject:
    """The request that a verb is about; ``attempt_id`` is that of its latest attempt, or of none."""

    harness: Harness
    request: PendingRequest
    attempt_id: int
    state: State


Call: TypeAlias = Callable[[Subject], Awaitable[object]]


@dataclass(frozen=True)
class Verb:
    """What a verb does: the event, and the states that the verb is for."""

    call: Call
    event: Event
    states: frozenset[State] = ANY

    def expected(self, state: State) -> State:
        return EXPECTED.get((state, self.event), state) if state in self.states else state


async def reach(harness: Harness, state: State) -> Subject:
    """A request in a state, by the public verbs."""
    first, request = await harness.add(2)
    if state is State.BLOCKED:
        await harness.store.join(request.id, Duplicate(first.id, here=True), b"asks the same", NOW)
    if state in UNSENT:
        return Subject(harness, request, 0, state)
    if state is State.IN_DOUBT:
        return Subject(harness, request, await harness.lose(request), state)
    attempt_id = await harness.claim(request)
    if state is not State.SUBMITTING:
        assert await harness.accept(request, attempt_id)
    if state not in IN_FLIGHT:
        assert await harness.end(request, attempt_id, state)
    return Subject(harness, request, attempt_id, state)


# ── the verbs ─────────────────────────────────────────────────────────────────────────────────────────────────


async def claim(at: Subject) -> None:
    await at.harness.try_claim(at.request, number=2 if at.attempt_id else 1)


async def accept(at: Subject) -> None:
    await at.harness.accept(at.request, at.attempt_id, response_id=f"resp_from_{at.state}", from_state=at.state)


async def accept_reply(at: Subject) -> None:
    await at.harness.accept(at.request, at.attempt_id, response_id=f"resp_from_{at.state}")


async def release(at: Subject) -> None:
    await at.harness.store.release(Release(request_id=at.request.id, attempt_id=at.attempt_id, not_before=NOW))


def end(event: Event) -> Call:
    async def call(at: Subject) -> None:
        ending = Ending(
            request_id=at.request.id,
            attempt_id=at.attempt_id,
            from_state=at.state,
            event=event,
            at=NOW,
            output_text="An answer." if event is Event.SUCCEED else None,
        )
        await at.harness.store.end(ending)

    return call


def leave(event: Event) -> Call:
    async def call(at: Subject) -> None:
        continuation = CONTINUATION if event is Event.CONTINUE else None
        leaving = Leaving(
            request_id=at.request.id, attempt_id=at.attempt_id, event=event, at=NOW, continuation=continuation
        )
        await at.harness.store.leave(leaving)

    return call


async def fail_pending(at: Subject) -> None:
    await at.harness.store.fail_pending(at.request.id, "too_large", "it never fits", NOW)


def join(original: State) -> Call:
    async def call(at: Subject) -> None:
        harness = at.harness
        await harness.store.add_rows(harness.run.id, [a_row(2)], [], mark(3))
        [other] = [each for each in await harness.fresh() if each.key == "row-2"]
        attempt_id = await harness.submit(other, response_id=f"resp_other_{at.state}")
        if original in SETTLED:
            await harness.end(other, attempt_id, original)
        await harness.store.join(at.request.id, Duplicate(other.id, here=True), b"asks the same", NOW)

    return call


async def request_cancel(at: Subject) -> None:
    await at.harness.store.request_cancel(at.harness.run.id, NOW)


async def requeue(at: Subject) -> None:
    await at.harness.requeue(State.FAILED, State.CANCELLED)


def resolve(how: str) -> Call:
    async def call(at: Subject) -> None:
        await at.harness.requeue(in_doubt=how)

    return call


VERBS = {
    "claim": Verb(claim, Event.CLAIM),
    "accept": Verb(accept, Event.ACCEPT),
    "accept-reply": Verb(accept_reply, Event.ACCEPT, frozenset({State.SUBMITTING})),
    "release": Verb(release, Event.RELEASE),
    **{
        f"end-{event}": Verb(end(event), event, IN_FLIGHT)
        for event in Event
        if event not in (Event.ACCEPT, Event.RELEASE)
    },
    **{f"leave-{event}": Verb(leave(event), event, frozenset({State.AWAITING_TOOLS})) for event in Event},
    "fail_pending": Verb(fail_pending, Event.FAIL, frozenset({State.PENDING})),
    "join-open": Verb(join(State.SUBMITTED), Event.JOIN, frozenset({State.PENDING})),
    "join-succeeded": Verb(join(State.SUCCEEDED), Event.SUCCEED, frozenset({State.PENDING})),
    "join-failed": Verb(join(State.FAILED), Event.FAIL, frozenset({State.PENDING})),
    "join-cancelled": Verb(join(State.CANCELLED), Event.CANCEL, frozenset({State.PENDING})),
    "request_cancel": Verb(request_cancel, Event.CANCEL, UNSENT),
    "requeue": Verb(requeue, Event.REQUEUE),
    "resolve-resend": Verb(resolve("resend"), Event.RETRY, frozenset({State.IN_DOUBT})),
    "resolve-fail": Verb(resolve("fail"), Event.FAIL, frozenset({State.IN_DOUBT})),
}


@pytest.mark.parametrize("name", VERBS)
async def test_a_verb_makes_the_move_of_the_table_or_none(store: Store, reader: Reader, name: str) -> None:
    verb = VERBS[name]
    for state in State:
        run = await store.create_run(a_run(f"from-{state}"))
        at = await reach(Harness(store, reader, run), state)
        assert (await at.harness.request(at.request.key)).state is state
        with suppress(IllegalTransition):
            await verb.call(at)
        assert (await at.harness.request(at.request.key)).state is verb.expected(state), f"from {state}"


# ── requests that move with another one ───────────────────────────────────────────────────────────────────────


async def a_chain(harness: Harness, turns: int = 2) -> PendingRequest:
    """The first turn of a chain, linked and unblocked."""
    rows = [a_row(n, chain="talk", place=n) for n in range(turns)]
    await harness.store.add_rows(harness.run.id, rows, [], mark(turns, complete=True))
    assert [(await harness.request(row.key)).state for row in rows] == [EXPECTED[State.PENDING, Event.JOIN]] * turns
    assert await harness.store.link_chains(harness.run.id, NOW) == 1
    assert (await harness.request("row-0")).state is EXPECTED[State.BLOCKED, Event.UNBLOCK]
    [first] = await harness.delayed()
    return first


OUTCOMES = {State.SUCCEEDED: Event.SUCCEED, State.FAILED: Event.FAIL, State.CANCELLED: Event.CANCEL}


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_duplicate_moves_with_its_original(harness: Harness, outcome: State) -> None:
    original, duplicate = await harness.add(2)
    await harness.store.join(duplicate.id, Duplicate(original.id, here=True), b"asks the same", NOW)
    await harness.end(original, await harness.submit(original), outcome)
    assert (await harness.request(duplicate.key)).state is EXPECTED[State.BLOCKED, OUTCOMES[outcome]]


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_the_next_turn_moves_with_the_one_before_it(harness: Harness, outcome: State) -> None:
    first = await a_chain(harness)
    await harness.end(first, await harness.submit(first), outcome)
    event = Event.UNBLOCK if outcome is State.SUCCEEDED else OUTCOMES[outcome]
    assert (await harness.request("row-1")).state is EXPECTED[State.BLOCKED, event]


@pytest.mark.parametrize("outcome", [State.FAILED, State.CANCELLED])
async def test_later_turns_are_blocked_again_with_a_requeued_one(harness: Harness, outcome: State) -> None:
    first = await a_chain(harness, turns=3)
    await harness.end(first, await harness.submit(first), outcome)
    assert await harness.requeue(outcome) == 3
    assert (await harness.request("row-0")).state is EXPECTED[outcome, Event.REQUEUE]
    for later in ("row-1", "row-2"):
        assert (await harness.request(later)).state is EXPECTED[outcome, Event.BLOCK]


def test_every_entry_of_the_table_has_a_verb() -> None:
    moved = {(state, verb.event) for verb, state in product(VERBS.values(), State) if state in verb.states}
    dependents = {(State.BLOCKED, event) for event in (Event.UNBLOCK, *OUTCOMES.values())}
    again = {(state, Event.BLOCK) for state in (State.FAILED, State.CANCELLED)}
    assert len(EXPECTED) > 20
    assert EXPECTED.keys() <= moved | dependents | again
