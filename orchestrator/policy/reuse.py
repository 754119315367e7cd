"""What a request does when another run asks the same: take the answer, take over the response, wait, or send."""

from __future__ import annotations

from enum import Enum

from orchestrator.core.states import SETTLED, State

__all__ = ["Reuse", "reuse", "usable_since"]

# By how much of the greatest age the limits of different requests differ.
_SPREAD = 0.2
_HASH_BYTES = 8


class Reuse(Enum):
    """What to do about a request of another run that asks the same, the best first."""

    TAKE = "take"  # it has the answer
    WAIT = "wait"  # a process works on it
    ADOPT = "adopt"  # its response is open or unfinished, and no process works on it
    RESOLVE = "resolve"  # its process ended while it was being sent: its doubt comes first
    HOLD = "hold"  # it is in doubt until the operator decides
    SEND = "send"  # nothing can come of it

    @property
    def rank(self) -> int:
        """The place among all, from 0 for the best."""
        return [*Reuse].index(self)


def reuse(state: State, *, at_work: bool, in_batch: bool = False) -> Reuse:
    """What to do about a request in ``state``; ``at_work`` says whether a process works on its run.

    A line of a batch (``in_batch``) has no response that could be taken over: only its own run collects it.

    Asking again is right only if the other request cannot have been paid for, or is not going to be answered.
    """
    if state is State.SUCCEEDED:
        return Reuse.TAKE
    if state in SETTLED:
        return Reuse.SEND
    if state is State.IN_DOUBT:
        return Reuse.HOLD
    if at_work:
        return Reuse.WAIT
    if in_batch and state in (State.SUBMITTING, State.SUBMITTED):
        return Reuse.HOLD
    return {
        State.SUBMITTED: Reuse.ADOPT,
        State.AWAITING_TOOLS: Reuse.ADOPT,
        State.SUBMITTING: Reuse.RESOLVE,
    }.get(state, Reuse.SEND)


def usable_since(now: float, max_age_s: float, fingerprint: bytes) -> float:
    """The time since which an answer must have been given or used to be used again.

    The limits of different requests are spread over the last fifth of the greatest age, or all answers of one night
    would have to be paid for again in another one.
    """
    share = int.from_bytes(fingerprint[:_HASH_BYTES].ljust(_HASH_BYTES), "big") / float(1 << 8 * _HASH_BYTES)
    return now - max_age_s * (1.0 - _SPREAD * share)
