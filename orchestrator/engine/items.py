"""The two things the engine holds in memory, and what a step says of them when it is through.

Both kinds are bounded: a few hundred requests made ready, and as many open responses as the limits allow.
All else is in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import FunctionCall
from orchestrator.core.money import Picodollars
from orchestrator.job.requests.local_files import FileToUpload
from orchestrator.policy.errors.verdicts import Halt
from orchestrator.policy.polling.schedule import Watch
from orchestrator.stores.reads import PendingRequest

__all__ = [
    "After",
    "AwaitingTools",
    "Finished",
    "Held",
    "NewConversation",
    "OpenResponse",
    "Prepared",
    "Queued",
    "Returned",
    "Stopped",
    "Waiting",
]


@fast_dataclass
class Prepared:
    """A pending request, rendered and encoded, that waits only for leave to be sent.

    ``tokens`` is what the rate limit counts; ``worst_case_pusd`` is what the budget sets aside.
    """

    request: PendingRequest
    number: int
    body: bytes
    model: str
    service_tier: str | None
    window: str | None
    tokens: int
    worst_case_pusd: Picodollars | None
    max_output_tokens: int | None
    # JSON: the user's own.
    metadata: str | None = None
    # Equal for requests that ask the same, where answers are shared.
    fingerprint: bytes | None = None
    # The chain whose conversation object is still to be made, and the body once it is there.
    new_conversation: NewConversation | None = None
    # Files to be uploaded before it can be sent; their ids take the place of these in the body.
    uploads: tuple[FileToUpload, ...] = ()


@dataclass(slots=True)
class NewConversation:
    """The conversation that a chain's first request needs; ``encode`` makes the body with its id.

    ``body`` is that, once the conversation is made: a request that comes back unsent needs no second one.
    """

    chain: str
    encode: Callable[[str], bytes]
    body: bytes | None = None


@dataclass(slots=True, kw_only=True)
class OpenResponse:
    """A response at the provider that has not been seen to end."""

    request_id: int
    attempt_id: int
    key: str
    attempts: int
    response_id: str
    status: str
    sent_at: float
    accepted_at: float
    model: str
    service_tier: str | None
    window: str | None
    worst_case_pusd: Picodollars | None
    max_output_tokens: int | None
    # How often the request went on from a response of its own before this one, and of these to have it mended.
    turn: int = 0
    repairs: int = 0
    # How the poll schedule follows it, from its acceptance on.
    watch: Watch = field(init=False)
    # Looks in a row that brought no readable answer, and when the first 404 came.
    # False for one that an earlier process left: it may have expired while nobody looked.
    accepted_here: bool = True
    misses: int = 0
    missing_since: float | None = None
    # When we asked the provider to cancel it, and under which code if it was for lack of patience.
    cancelled_at: float | None = None
    given_up: str | None = None


@fast_dataclass(kw_only=False)
class Waiting:
    """The response is open: look again at ``look_at``; ``forced`` says even if the schedule finds it too early."""

    open: OpenResponse
    look_at: float
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """The request is pending on disk again, due at ``not_before``."""

    not_before: float


@dataclass(frozen=True, slots=True)
class Returned:
    """The request could not be sent now and was not counted; it goes back to the head of the queue."""

    prepared: Prepared


@dataclass(frozen=True, slots=True)
class AwaitingTools:
    """The response has ended with calls of function tools; ``said`` is what those answered that were run already.

    ``context_tokens`` are those that the model reads again in the next turn.
    """

    open: OpenResponse
    calls: Sequence[FunctionCall]
    context_tokens: int
    said: Mapping[str, str] = field(default_factory=dict)


@fast_dataclass(kw_only=False)
class Finished:
    """The request is settled; ``unblocked`` says that another one waited for it and may be sent now."""

    unblocked: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The request is in doubt and held for the operator."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing more may be sent in this run. ``collect`` says whether open responses can still be fetched."""

    code: str
    message: str
    collect: bool

    @classmethod
    def by(cls, halt: Halt, *, collect: bool) -> Stopped:
        """The stop that a verdict asks for, with its advice to the user."""
        return cls(halt.code, f"{halt.message}; {halt.hint}" if halt.hint else halt.message, collect)


After: TypeAlias = Waiting | Queued | Returned | AwaitingTools | Finished | Held | Stopped
