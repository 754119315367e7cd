"""Every verb of every store, from every state: what moves is in this table, which must equal the state table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.states import TRANSITIONS, Event, State
from orchestrator.stores.reads import Continuation, Duplicate, PendingRequest
from orchestrator.stores.writes import Ending, Leaving, Release

from .builders import NOW, Harness, a_row, mark

pytestmark = pytest.mark.anyio

NEXT = Continuation(fields=b"{}", context_tokens=1)


@dataclass
class Subject:
    """A request in some state, with its latest attempt, if it has one."""

    harness: Harness
    request: PendingRequest
    state: State
    attempt_id: int = 10**9

    async def other(self) -> PendingRequest:
        """Another request of the run, which is pending."""
        return await new_request(self.harness)


async def new_request(harness: Harness) -> PendingRequest:
    position = (await harness.summary()).requests.total
    return (await harness.add(1, position))[-1]


# ── a request in each state ───────────────────────────────────────────────────────────────────────────────────


async def subject_in(harness: Harness, state: State) -> Subject:
    request = await new_request(harness)
    subject = Subject(harness, request, state)
    if state is State.BLOCKED:
        first = await subject.other()
        await harness.claim(first)
        await harness.store.join(request.id, Duplicate(first.id, here=True), b"fingerprint", NOW)
    elif state is State.IN_DOUBT:
        subject.attempt_id = await harness.lose(request)
    elif state is State.SUBMITTING:
        subject.attempt_id = await harness.claim(request)
    elif state is not State.PENDING:
        subject.attempt_id = await harness.submit(request)
        if state is not State.SUBMITTED:
            assert await harness.end(request, subject.attempt_id, state, code="broken")
    assert (await harness.request(request.key)).state is state
    return subject


# ── the verbs ─────────────────────────────────────────────────────────────────────────────────────────────────

Verb: TypeAlias = Callable[[Subject], Awaitable[object]]


async def claim(subject: Subject) -> object:
    number = 1 + len(await subject.harness.reader.attempts(subject.request.id))
    return await subject.harness.try_claim(subject.request, number=number)


async def accept(subject: Subject) -> object:
    return await subject.harness.accept(subject.request, subject.attempt_id)


async def release(subject: Subject) -> object:
    ids = subject.request.id, subject.attempt_id
    return await subject.harness.store.release(Release(request_id=ids[0], attempt_id=ids[1], not_before=NOW))


def end(event: Event) -> Verb:
    async def end(subject: Subject) -> object:
        ending = Ending(
            request_id=subject.request.id,
            attempt_id=subject.attempt_id,
            from_state=subject.state,
            event=event,
            at=NOW,
            output_text="An answer." if event is Event.SUCCEED else None,
            continuation=NEXT if event is Event.CONTINUE else None,
        )
        return await subject.harness.store.end(ending)

    return end


def leave(event: Event) -> Verb:
    async def leave(subject: Subject) -> object:
        leaving = Leaving(
            request_id=subject.request.id,
            attempt_id=subject.attempt_id,
            event=event,
            at=NOW,
            continuation=NEXT if event is Event.CONTINUE else None,
        )
        return await subject.harness.store.leave(leaving)

    return leave


async def fail_pending(subject: Subject) -> object:
    return await subject.harness.store.fail_pending(subject.request.id, "broken", "it cannot be sent", NOW)


def join(first: State) -> Verb:
    """Join the subject to a request in this state."""

    async def join(subject: Subject) -> object:
        original = (await subject_in(subject.harness, first)).request
        return await subject.harness.store.join(subject.request.id, Duplicate(original.id, here=True), b"x", NOW)

    return join


async def cancel(subject: Subject) -> object:
    await subject.harness.store.request_cancel(subject.harness.run.id, NOW)
    return None


async def requeue(subject: Subject) -> object:
    return await subject.harness.requeue(State.FAILED, State.CANCELLED, code="broken")


def resolve(word: str) -> Verb:
    return lambda subject: subject.harness.requeue(in_doubt=word)


VERBS: dict[str, Verb] = {
    "claim": claim,
    "accept": accept,
    "release": release,
    **{f"end by {event}": end(event) for event in Event},
    **{f"leave by {event}": leave(event) for event in Event},
    "fail pending": fail_pending,
    **{f"join {state}": join(state) for state in State},
    "cancel": cancel,
    "requeue": requeue,
    "resolve by resend": resolve("resend"),
    "resolve by fail": resolve("fail"),
}

# What each verb moves: the state before, the event, the state after. Everything else stays as it is.
MOVES: dict[str, dict[State, tuple[Event, State]]] = {
    "claim": {State.PENDING: (Event.CLAIM, State.SUBMITTING)},
    "accept": {State.SUBMITTING: (Event.ACCEPT, State.SUBMITTED)},
    "release": {State.SUBMITTING: (Event.RELEASE, State.PENDING)},
    "end by lose": {State.SUBMITTING: (Event.LOSE, State.IN_DOUBT)},
    "end by retry": {
        State.SUBMITTING: (Event.RETRY, State.PENDING),
        State.SUBMITTED: (Event.RETRY, State.PENDING),
        State.IN_DOUBT: (Event.RETRY, State.PENDING),
    },
    "end by succeed": {State.SUBMITTED: (Event.SUCCEED, State.SUCCEEDED)},
    "end by fail": {
        State.SUBMITTING: (Event.FAIL, State.FAILED),
        State.SUBMITTED: (Event.FAIL, State.FAILED),
        State.IN_DOUBT: (Event.FAIL, State.FAILED),
    },
    "end by cancel": {
        State.SUBMITTED: (Event.CANCEL, State.CANCELLED),
        State.IN_DOUBT: (Event.CANCEL, State.CANCELLED),
    },
    "end by call": {State.SUBMITTED: (Event.CALL, State.AWAITING_TOOLS)},
    "end by continue": {State.SUBMITTED: (Event.CONTINUE, State.PENDING)},
    "leave by continue": {State.AWAITING_TOOLS: (Event.CONTINUE, State.PENDING)},
    "leave by fail": {State.AWAITING_TOOLS: (Event.FAIL, State.FAILED)},
    "leave by cancel": {State.AWAITING_TOOLS: (Event.CANCEL, State.CANCELLED)},
    "fail pending": {State.PENDING: (Event.FAIL, State.FAILED)},
    **{
        f"join {state}": {State.PENDING: (Event.JOIN, State.BLOCKED)}
        for state in State
        if state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    },
    "join succeeded": {State.PENDING: (Event.SUCCEED, State.SUCCEEDED)},
    "join failed": {State.PENDING: (Event.FAIL, State.FAILED)},
    "join cancelled": {State.PENDING: (Event.CANCEL, State.CANCELLED)},
    "cancel": {
        State.PENDING: (Event.CANCEL, State.CANCELLED),
        State.BLOCKED: (Event.CANCEL, State.CANCELLED),
    },
    "requeue": {
        State.FAILED: (Event.REQUEUE, State.PENDING),
        State.CANCELLED: (Event.REQUEUE, State.PENDING),
    },
    "resolve by resend": {State.IN_DOUBT: (Event.RETRY, State.PENDING)},
    "resolve by fail": {State.IN_DOUBT: (Event.FAIL, State.FAILED)},
}
# What moves a request along with another one, in ``test_a_blocked_request_moves_with_the_one_it_waits_for`` and
# ``test_a_settled_turn_is_blocked_again_with_the_one_before_it``.
DEPENDENT_MOVES = {
    (State.BLOCKED, Event.UNBLOCK): State.PENDING,
    (State.BLOCKED, Event.SUCCEED): State.SUCCEEDED,
    (State.BLOCKED, Event.FAIL): State.FAILED,
    (State.FAILED, Event.BLOCK): State.BLOCKED,
    (State.CANCELLED, Event.BLOCK): State.BLOCKED,
}


def test_the_verbs_make_the_moves_of_the_state_table() -> None:
    by_verbs = {(state, event): to for moves in MOVES.values() for state, (event, to) in moves.items()}
    assert by_verbs | DEPENDENT_MOVES == TRANSITIONS


@pytest.mark.parametrize("state", State)
async def test_each_verb_moves_a_request_as_the_table_says(harness: Harness, state: State) -> None:
    for name, verb in VERBS.items():
        subject = await subject_in(harness, state)
        _, expected = MOVES.get(name, {}).get(state, (None, state))
        try:
            answer = await verb(subject)
        except IllegalTransition:
            assert expected is state, name
        else:
            if expected is state and name not in ("cancel", "requeue", "resolve by resend", "resolve by fail"):
                assert answer in (None, False), name
        assert (await harness.request(subject.request.key)).state is expected, f"{name} from {state}"


@pytest.mark.parametrize("state", [State.SUBMITTED, State.SUBMITTING, State.IN_DOUBT])
async def test_an_end_from_another_state_moves_nothing(harness: Harness, state: State) -> None:
    subject = await subject_in(harness, State.SUCCEEDED)
    subject.state = state
    assert await end(Event.FAIL)(subject) is None
    assert (await harness.request(subject.request.key)).state is State.SUCCEEDED


# ── dependents ────────────────────────────────────────────────────────────────────────────────────────────────


async def chain_of_two(harness: Harness) -> tuple[PendingRequest, str]:
    """The first turn of a chain, which is pending, and the key of the second, which is blocked."""
    turns = [a_row(position, chain="interview", place=position) for position in range(2)]
    await harness.store.add_rows(harness.run.id, turns, [], mark(2))
    assert await harness.states() == {State.BLOCKED: 2}
    assert await harness.store.link_chains(harness.run.id, NOW) == 1
    [first] = await harness.delayed()
    return first, turns[1].key


@pytest.mark.parametrize(
    ("to", "turn", "duplicate"),
    [
        (State.SUCCEEDED, State.PENDING, State.SUCCEEDED),
        (State.FAILED, State.FAILED, State.FAILED),
        (State.CANCELLED, State.CANCELLED, State.CANCELLED),
    ],
)
async def test_a_blocked_request_moves_with_the_one_it_waits_for(
    harness: Harness, to: State, turn: State, duplicate: State
) -> None:
    first, second = await chain_of_two(harness)
    await harness.end(first, await harness.submit(first), to)
    assert (await harness.request(second)).state is turn
    original, same = (await harness.add(2, 2))[-2:]
    attempt_id = await harness.submit(original)
    await harness.store.join(same.id, Duplicate(original.id, here=True), b"x", NOW)
    await harness.end(original, attempt_id, to)
    assert (await harness.request(same.key)).state is duplicate


@pytest.mark.parametrize("to", [State.FAILED, State.CANCELLED])
async def test_a_settled_turn_is_blocked_again_with_the_one_before_it(harness: Harness, to: State) -> None:
    first, second = await chain_of_two(harness)
    await harness.end(first, await harness.submit(first), to)
    assert await harness.states() == {to: 2}
    assert await harness.requeue(to) == 2
    assert (await harness.request(first.key)).state is State.PENDING
    assert (await harness.request(second)).state is State.BLOCKED
