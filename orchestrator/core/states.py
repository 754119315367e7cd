"""The states of a request, and the only table that moves one.

Stores and steps name an event; ``TRANSITIONS`` alone says which state follows. The documentation's state table is
generated from it, and tests run every verb of the store from every state against it.
"""

from __future__ import annotations

from enum import StrEnum

from orchestrator.core.errors import IllegalTransition

__all__ = [
    "IN_FLIGHT",
    "OPEN",
    "SETTLED",
    "TRANSITIONS",
    "Event",
    "RunState",
    "State",
    "first_state",
    "move",
    "moves",
    "settled_by",
]


class State(StrEnum):
    """Where a request is; the provider's own ``status`` is stored separately, on the attempt."""

    PENDING = "pending"
    BLOCKED = "blocked"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    AWAITING_TOOLS = "acting"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a request."""

    JOIN = "join"
    UNBLOCK = "unblock"
    CLAIM = "claim"
    ACCEPT = "accept"
    RELEASE = "release"
    LOSE = "lose"
    RETRY = "retry"
    CALL = "call"
    CONTINUE = "continue"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    BLOCK = "block"


class RunState(StrEnum):
    """Where a run is.

    ``paused`` is never stored: an ``active`` run is shown as paused if no process holds its lock.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    HALTED = "halted"
    CANCELLED = "cancelled"


# The event by which a request shares the outcome of another one, by how that one was settled.
_SETTLING = {State.SUCCEEDED: Event.SUCCEED, State.FAILED: Event.FAIL, State.CANCELLED: Event.CANCEL}

SETTLED = frozenset(_SETTLING)
# The latest attempt has not ended.
IN_FLIGHT = frozenset({State.SUBMITTING, State.SUBMITTED, State.IN_DOUBT})
OPEN = IN_FLIGHT | {State.AWAITING_TOOLS}

TRANSITIONS: dict[tuple[State, Event], State] = {
    # The intent is on disk before the POST is sent; after a crash from here on the request "may have been sent".
    (State.PENDING, Event.CLAIM): State.SUBMITTING,
    # It shares the outcome of an earlier request that asks the same and has ended.
    (State.PENDING, Event.SUCCEED): State.SUCCEEDED,
    (State.PENDING, Event.FAIL): State.FAILED,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
    # It waits for another request: an earlier row that asks the same, or the turn before it in its chain.
    (State.PENDING, Event.JOIN): State.BLOCKED,
    (State.BLOCKED, Event.UNBLOCK): State.PENDING,
    (State.BLOCKED, Event.SUCCEED): State.SUCCEEDED,
    (State.BLOCKED, Event.FAIL): State.FAILED,
    (State.BLOCKED, Event.CANCEL): State.CANCELLED,
    # The response id is on disk before anything else happens with it.
    (State.SUBMITTING, Event.ACCEPT): State.SUBMITTED,
    # Nothing was created (never sent, or refused): back in the queue, and the attempt is removed.
    (State.SUBMITTING, Event.RELEASE): State.PENDING,
    (State.SUBMITTING, Event.RETRY): State.PENDING,
    # The reply was lost: a response may exist and cost money, and its id is unknown.
    (State.SUBMITTING, Event.LOSE): State.IN_DOUBT,
    (State.SUBMITTING, Event.FAIL): State.FAILED,
    (State.SUBMITTED, Event.SUCCEED): State.SUCCEEDED,
    (State.SUBMITTED, Event.FAIL): State.FAILED,
    (State.SUBMITTED, Event.RETRY): State.PENDING,
    (State.SUBMITTED, Event.CANCEL): State.CANCELLED,
    # The response stopped for our tools: it has ended and is charged; their results begin the next turn.
    (State.SUBMITTED, Event.CALL): State.AWAITING_TOOLS,
    (State.AWAITING_TOOLS, Event.CONTINUE): State.PENDING,
    (State.AWAITING_TOOLS, Event.FAIL): State.FAILED,
    (State.AWAITING_TOOLS, Event.CANCEL): State.CANCELLED,
    # The answer does not fit its schema, and the model is asked to repair it.
    (State.SUBMITTED, Event.CONTINUE): State.PENDING,
    # An event of the provider named the response, and its metadata showed whose it is.
    (State.IN_DOUBT, Event.ACCEPT): State.SUBMITTED,
    # The operator decides, or cancels the run.
    (State.IN_DOUBT, Event.RETRY): State.PENDING,
    (State.IN_DOUBT, Event.FAIL): State.FAILED,
    (State.IN_DOUBT, Event.CANCEL): State.CANCELLED,
    # Only the operator brings a settled request back, and never one that succeeded; it is blocked again if the turn
    # that it waits for comes back too.
    (State.FAILED, Event.REQUEUE): State.PENDING,
    (State.CANCELLED, Event.REQUEUE): State.PENDING,
    (State.FAILED, Event.BLOCK): State.BLOCKED,
    (State.CANCELLED, Event.BLOCK): State.BLOCKED,
}


def move(state: State, event: Event) -> State:
    """The state that follows; raises ``IllegalTransition`` if the table has no entry."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state.value, event.value) from None


def moves(event: Event) -> tuple[tuple[State, State], ...]:
    """All moves of an event, as pairs of the state before and the state after."""
    return tuple((source, target) for (source, each), target in TRANSITIONS.items() if each is event)


def first_state(*, in_chain: bool) -> State:
    """Where a new request begins; a turn of a chain joins those before it, which are known once all rows are."""
    return move(State.PENDING, Event.JOIN) if in_chain else State.PENDING


def settled_by(state: State) -> Event | None:
    """The event by which others share the outcome of a request in this state; None if it is not settled."""
    return _SETTLING.get(state)
