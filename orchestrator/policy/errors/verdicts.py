"""What is to be done after a call or a look: a small union of values that the engine acts on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "CallTools",
    "Cancelled",
    "Continue",
    "CreateVerdict",
    "Expired",
    "Fail",
    "Found",
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


@dataclass(frozen=True, slots=True)
class Succeed:
    """The response is an answer. ``partial`` marks one that was cut off and is kept all the same."""

    partial: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the request again; this attempt is spent.

    ``after_s`` is the least wait that the provider or the error asks for; ``base_s`` is where the back-off of
    this kind of error starts. ``outage`` feeds the circuit and ``rate_limited`` the limiter: the attempt says
    something about the provider too. ``most_attempts`` allows fewer attempts than the job does.
    ``max_output_tokens`` replaces the request's own from now on.
    """

    code: str
    after_s: float | None = None
    message: str = ""
    base_s: float = 1.0
    outage: bool = False
    rate_limited: bool = False
    most_attempts: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was created and nobody is to blame: back in the queue for so long, no attempt spent."""

    after_s: float


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Off the rate limit: the pool pauses, no attempt is spent.

    ``slow_down`` says that the load rose too fast rather than too high; ``tokens`` that the tokens ran out and
    not the requests.
    """

    after_s: float | None = None
    slow_down: bool = False
    tokens: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """The provider as a whole cannot serve, and nothing was created: the circuit hears of it, no attempt is spent."""

    code: str
    after_s: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """The request fails for good; trying again would end the same way."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """It may have been sent, and may run and cost money: never sent again without a decision."""

    code: str = "submit_in_doubt"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The reply was lost, but the response's id was in what did arrive: it is followed like any other."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Halt:
    """Every further request would end the same way: the run stops, resumable.

    The request itself is not to blame and keeps its place: a create goes back unspent, or is in doubt where
    ``maybe_sent`` says so; an open response stays open.
    """

    code: str
    message: str
    hint: str | None = None
    maybe_sent: bool = False


@dataclass(frozen=True, slots=True)
class PollAgain:
    """Nothing is known yet: look again, not before ``after_s`` where it is given.

    ``outage`` feeds the circuit. ``missing`` says that the provider does not find the response, for now.
    """

    after_s: float | None = None
    outage: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """The provider no longer knows the response: its result is lost, what it cost is unknown."""

    message: str
    code: str = "response_expired"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody cancelled the response at the provider, on purpose: it is not sent again."""

    message: str = "the response was cancelled at the provider"
    code: str = "cancelled"


@dataclass(frozen=True, slots=True)
class CallTools:
    """The response stopped for function tools of ours: run them, then go on with what they say."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The response is charged and no answer yet: go on from it with these input items, in a turn of its own."""

    code: str
    input: tuple[Mapping[str, Any], ...]
    message: str = ""


CreateVerdict: TypeAlias = Retry | Later | RateLimited | Outage | Fail | InDoubt | Found | Halt
PollVerdict: TypeAlias = PollAgain | RateLimited | Expired | Halt
ResponseVerdict: TypeAlias = Succeed | PollAgain | Retry | CallTools | Continue | Fail | Cancelled | Halt
Verdict: TypeAlias = CreateVerdict | PollVerdict | ResponseVerdict
