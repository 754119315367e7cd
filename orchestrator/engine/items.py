"""What the engine holds in memory (requests made ready, open responses), and how each step reports its outcome.

Both are bounded: a few hundred requests made ready, and as many open responses as the limits allow. All else is in
the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.core.model import FunctionCall
from orchestrator.core.money import Picodollars
from orchestrator.engine.stages import Stage
from orchestrator.job.requests.local_files import FileToUpload
from orchestrator.policy.errors.verdicts import Halt
from orchestrator.policy.polling.schedule import Watch
from orchestrator.stores.reads import OtherRequest, PendingRequest

__all__ = [
    "After",
    "AskedElsewhere",
    "AwaitingTools",
    "AwaitsEvent",
    "Finished",
    "Halted",
    "Held",
    "NewConversation",
    "OpenResponse",
    "Prepared",
    "Queued",
    "Returned",
    "Waiting",
]


@fast_dataclass
class Prepared:
    """A pending request, rendered and encoded, ready to be sent as soon as the limits and the budget admit it.

    The rate limit counts ``tokens``; the budget reserves ``worst_case_pusd``.
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
    lane: Lane = Lane.BACKGROUND
    # The place of the endpoint that it is admitted to, and of the one that it must go to, if it must.
    endpoint: int = 0
    pin: int | None = None
    # JSON: the user's own.
    metadata: str | None = None
    # The same for duplicates, if answers are shared.
    fingerprint: bytes | None = None
    # Since when an answer of another run may be used; None if other runs do not matter.
    others_since: float | None = None
    # The chain whose conversation object must be created first; it makes the body.
    new_conversation: NewConversation | None = None
    # Files to upload first; their ids replace them in the body.
    uploads: tuple[FileToUpload, ...] = ()


@dataclass(slots=True)
class NewConversation:
    """The conversation that a chain's first request needs; ``encode`` makes the body with its id.

    ``body`` is set once the conversation exists: a request that comes back unsent needs no second one.
    """

    chain: str
    encode: Callable[[str], bytes]
    body: bytes | None = None
    # The place of the endpoint that has it.
    endpoint: int | None = None


@dataclass(slots=True, kw_only=True)
class OpenResponse:
    """A response at the provider that no poll has seen end; ``response_id`` is empty until the create is accepted."""

    request_id: int
    attempt_id: int
    key: str
    stage: Stage
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
    lane: Lane = Lane.BACKGROUND
    # The place of the endpoint that has the response.
    endpoint: int = 0
    # The number of the attempt among those of its request.
    number: int = 1
    # How many turns of this request came before, and how many of those asked for a repaired answer.
    turn: int = 0
    repairs: int = 0
    # Its place in the poll schedule, from its acceptance on.
    watch: Watch = field(init=False)
    # False if an earlier process left it open: it may have expired while no process polled it.
    accepted_here: bool = True
    # Another run's request asked for it, and is charged for it.
    adopted: bool = False
    # How many polls in a row brought no readable answer, and when the first 404 came.
    misses: int = 0
    # How many of them were whole replies that cannot be read, and whether the latest reply was readable so far.
    unreadable: int = 0
    shows_nothing: bool = False
    missing_since: float | None = None
    # When orchestrator asked the provider to cancel it, and the code of the timeout if that was the reason.
    cancelled_at: float | None = None
    given_up: str | None = None


@fast_dataclass(kw_only=False)
class Waiting:
    """The response is open: poll it at ``poll_at``; ``forced`` means even if the schedule finds that too early."""

    open: OpenResponse
    poll_at: float
    forced: bool = False


@fast_dataclass(kw_only=False)
class Queued:
    """The request is pending on disk again, due at ``not_before``."""

    not_before: float


@fast_dataclass(kw_only=False)
class Returned:
    """The request could not be sent now and no attempt was counted; it returns to the head of the queue."""

    prepared: Prepared


@fast_dataclass(kw_only=False)
class AwaitingTools:
    """The response has ended with calls of function tools.

    ``context_tokens`` is how many tokens the model reads again in the next turn. ``answers`` are the outputs of calls
    that an earlier process has run, by call id.
    """

    open: OpenResponse
    calls: Sequence[FunctionCall]
    context_tokens: int
    answers: Mapping[str, str] = field(default_factory=dict)


@fast_dataclass(kw_only=False)
class Finished:
    """The request is settled; ``unblocked`` says that a request which waited for it is pending now."""

    unblocked: bool = False


@fast_dataclass(kw_only=False)
class Held:
    """The request is in doubt and held for the operator."""


@fast_dataclass(kw_only=False)
class AwaitsEvent:
    """The request is in doubt: until then an event may name its response; later it is sent again or held.

    ``counted``: the attempt counts against those that the request has.
    """

    open: OpenResponse
    until: float
    counted: bool


@fast_dataclass(kw_only=False)
class Halted:
    """Nothing more may be sent in this run. ``collect`` says whether open responses can still be fetched.

    ``cap`` is the scope of the budget that is used up, if it is one.
    """

    code: str
    message: str
    collect: bool
    cap: str | None = None

    @classmethod
    def by(cls, halt: Halt, *, collect: bool) -> Halted:
        """The halt that a verdict asks for, with its advice to the user."""
        return cls(halt.code, f"{halt.message}; {halt.hint}" if halt.hint else halt.message, collect)


@fast_dataclass(kw_only=False)
class AskedElsewhere:
    """Other runs have the same request in flight, or its answer; it was not sent."""

    others: Sequence[OtherRequest]


After: TypeAlias = Waiting | Queued | Returned | AwaitingTools | Finished | AwaitsEvent | Held | Halted
