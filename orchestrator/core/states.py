"""The states of a request, and the only table that moves one.

The documentation's state table and the tests are generated from ``TRANSITIONS``; nothing else in the
package may decide what state follows which.
"""

from __future__ import annotations

from enum import StrEnum

from orchestrator.core.errors import IllegalTransition

__all__ = ["OPEN", "SETTLED", "TRANSITIONS", "Event", "RunState", "State", "move"]


class State(StrEnum):
    """Where a request stands; the provider's own ``status`` is kept apart, on the attempt."""

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
    """Where a run stands.

    ``paused`` is never stored: it is how an ``active`` run that no process works on is shown.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    HALTED = "halted"
    CANCELLED = "cancelled"


SETTLED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
OPEN = frozenset({State.SUBMITTING, State.SUBMITTED, State.AWAITING_TOOLS, State.IN_DOUBT})

TRANSITIONS: dict[tuple[State, Event], State] = {
    # The intent is on disk before the POST leaves; a crash after this point is seen as "may have been sent".
    (State.PENDING, Event.CLAIM): State.SUBMITTING,
    # The same request was answered before, and the answer is taken.
    (State.PENDING, Event.SUCCEED): State.SUCCEEDED,
    (State.PENDING, Event.FAIL): State.FAILED,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
    # It waits for another request: the same one asked for by an earlier row, or the turn before it in its chain.
    (State.PENDING, Event.JOIN): State.BLOCKED,
    (State.BLOCKED, Event.UNBLOCK): State.PENDING,
    (State.BLOCKED, Event.SUCCEED): State.SUCCEEDED,
    (State.BLOCKED, Event.FAIL): State.FAILED,
    (State.BLOCKED, Event.CANCEL): State.CANCELLED,
    # The response id is on disk before anything else is done with it.
    (State.SUBMITTING, Event.ACCEPT): State.SUBMITTED,
    # Nothing was created (never sent, or refused): back in the queue, the attempt is not counted.
    (State.SUBMITTING, Event.RELEASE): State.PENDING,
    (State.SUBMITTING, Event.RETRY): State.PENDING,
    # The reply was lost: a response may exist and cost money, and its id is unknown.
    (State.SUBMITTING, Event.LOSE): State.IN_DOUBT,
    (State.SUBMITTING, Event.FAIL): State.FAILED,
    (State.SUBMITTED, Event.SUCCEED): State.SUCCEEDED,
    (State.SUBMITTED, Event.FAIL): State.FAILED,
    (State.SUBMITTED, Event.RETRY): State.PENDING,
    (State.SUBMITTED, Event.CANCEL): State.CANCELLED,
    # The response stopped for our tools: it has ended and is charged; what they say begins the next turn.
    (State.SUBMITTED, Event.CALL): State.AWAITING_TOOLS,
    (State.AWAITING_TOOLS, Event.CONTINUE): State.PENDING,
    (State.AWAITING_TOOLS, Event.FAIL): State.FAILED,
    (State.AWAITING_TOOLS, Event.CANCEL): State.CANCELLED,
    # The answer does not fit its schema, and the model is asked to repair it.
    (State.SUBMITTED, Event.CONTINUE): State.PENDING,
    # The lost response was found after all (its id in a truncated reply, a webhook).
    (State.IN_DOUBT, Event.ACCEPT): State.SUBMITTED,
    (State.IN_DOUBT, Event.RETRY): State.PENDING,
    (State.IN_DOUBT, Event.FAIL): State.FAILED,
    (State.IN_DOUBT, Event.CANCEL): State.CANCELLED,
    # Only an operator's word brings a settled request back, and never one that succeeded; blocked again where what
    # it waits for comes back too.
    (State.FAILED, Event.REQUEUE): State.PENDING,
    (State.CANCELLED, Event.REQUEUE): State.PENDING,
    (State.FAILED, Event.BLOCK): State.BLOCKED,
    (State.CANCELLED, Event.BLOCK): State.BLOCKED,
}


def move(state: State, event: Event) -> State:
    """The state that follows; raises ``IllegalTransition`` where the table has no entry."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state.value, event.value) from None
