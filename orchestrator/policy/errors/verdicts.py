"""What the engine must do after a call or a poll: a small union of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = [
    "CallTools",
    "Cancelled",
    "Continue",
    "CreateVerdict",
    "Expired",
    "Fail",
    "Found",
    "Full",
    "Halt",
    "InDoubt",
    "Later",
    "Outage",
    "PollAgain",
    "PollVerdict",
    "RateLimited",
    "ResponseVerdict",
    "Retry",
    "Succeed",
    "Verdict",
]


@fast_dataclass(kw_only=False)
class Succeed:
    """The response is an answer. One that was cut off and is kept shows it by its status ``incomplete``."""


@fast_dataclass(kw_only=False)
class Retry:
    """Send the request again; this attempt is spent.

    ``after_s`` is the minimum wait that the provider or the error asks for; ``base_s`` is the first back-off for this
    kind of error. ``outage`` also counts the failure in the circuit breaker, and ``rate_limited`` in the limiter.
    ``most_attempts`` allows fewer attempts than the job does. ``max_output_tokens`` replaces the request's own from
    now on.
    """

    code: str
    after_s: float | None = None
    message: str = ""
    base_s: float = 1.0
    outage: bool = False
    rate_limited: bool = False
    most_attempts: int | None = None
    max_output_tokens: int | None = None


@fast_dataclass(kw_only=False)
class Later:
    """Nothing was created, and neither request nor provider is at fault: queue it again; no attempt is spent."""

    after_s: float


@fast_dataclass(kw_only=False)
class RateLimited:
    """Refused by the rate limit: the limiter slows down or pauses; no attempt is spent.

    ``slow_down`` says that the load rose too fast rather than too high.
    """

    after_s: float | None = None
    slow_down: bool = False


@fast_dataclass(kw_only=False)
class Full:
    """The server has no place for another open response, and nothing was created: fewer are open from now on.

    No attempt is spent, and nothing is learned about the speed.
    """

    after_s: float | None = None


@fast_dataclass(kw_only=False)
class Outage:
    """The provider serves no requests and nothing was created: the circuit breaker counts it, no attempt is spent."""

    code: str
    after_s: float | None = None
    message: str = ""


@fast_dataclass(kw_only=False)
class Fail:
    """The request fails permanently; a retry would end the same way."""

    code: str
    message: str = ""


@fast_dataclass(kw_only=False)
class InDoubt:
    """It may have been sent, and may run and cost money: never send it again without a decision."""

    code: str = "submit_in_doubt"
    message: str = ""


@fast_dataclass(kw_only=False)
class Found:
    """The reply was lost, but the part that arrived holds the response's id: poll it like any other."""

    response_id: str


@fast_dataclass(kw_only=False)
class Halt:
    """Every further request would end the same way: the run stops and can be resumed.

    The request itself is not at fault and keeps its place: a create is queued again without a spent attempt, or is in
    doubt if ``maybe_sent``; an open response stays open.
    """

    code: str
    message: str
    hint: str | None = None
    maybe_sent: bool = False


@fast_dataclass(kw_only=False)
class PollAgain:
    """The response has not ended as far as is known: poll again, after ``after_s`` at the earliest if given.

    ``outage`` counts in the circuit breaker. ``missing`` says that the provider does not find the response, for now.
    """

    after_s: float | None = None
    outage: bool = False
    missing: bool = False


@fast_dataclass(kw_only=False)
class Expired:
    """The provider no longer knows the response: its result is lost and its cost unknown."""

    message: str
    code: str = "response_expired"


@fast_dataclass(kw_only=False)
class Cancelled:
    """The response was cancelled at the provider on purpose: do not send the request again."""

    message: str = "the response was cancelled at the provider"
    code: str = "cancelled"


@fast_dataclass(kw_only=False)
class CallTools:
    """The response stopped for function tools of the job: run them, then continue with their outputs."""


@fast_dataclass(kw_only=False)
class Continue:
    """The response is charged but is no answer yet: continue from it with these input items, in a new turn."""

    code: str
    input: tuple[Mapping[str, Any], ...]
    message: str = ""


CreateVerdict: TypeAlias = Full | Retry | Later | RateLimited | Outage | Fail | InDoubt | Found | Halt
PollVerdict: TypeAlias = PollAgain | RateLimited | Expired | Fail | Halt
ResponseVerdict: TypeAlias = Succeed | PollAgain | Retry | CallTools | Continue | Fail | Cancelled | Halt
Verdict: TypeAlias = CreateVerdict | PollVerdict | ResponseVerdict
