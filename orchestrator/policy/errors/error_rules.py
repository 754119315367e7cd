"""One row of the error table: which errors it matches, and what it says about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost

__all__ = ["Action", "ErrorRule", "Override", "Phase", "Reach", "ReplyKind"]


class Phase(StrEnum):
    """The step at which an error occurred."""

    CREATE = "create"
    POLL = "poll"
    # As the ``error`` of a response that ended ``failed``, under HTTP 200.
    FAILED = "failed"


class Action(StrEnum):
    """What to do about an error; a config's ``class`` may be any but ``later``, ``found`` and ``unreadable``."""

    RETRY = "retry"
    RATE_LIMITED = "rate_limited"
    SLOW_DOWN = "slow_down"
    FULL = "full"
    OUTAGE = "outage"
    FAIL = "fail"
    IN_DOUBT = "in_doubt"
    HALT = "halt"
    # The response is unknown: poll again while that may be a delay, then it has expired.
    MISSING = "missing"
    # The reply is there but cannot be read: poll again for a while, then give the row up.
    UNREADABLE = "unreadable"
    LATER = "later"
    FOUND = "found"


class Reach(StrEnum):
    """Which other requests will hit the same error."""

    REQUEST = "this request"
    # Every request if the job or the config is at fault, which the first creates of a run show.
    JOB = "requests like it"
    ALL = "every request"


class ReplyKind(StrEnum):
    """What came back from a call, which shows whether it was sent."""

    NO_CONNECTION = "no connection of our own was free"
    NOTHING_SENT = "nothing was sent"
    ONLY_ID = "the reply was lost, but for the response's id"
    NOTHING = "the reply was lost"
    UNREADABLE = "a whole reply of the API that cannot be read"
    ERROR = "an error"


@fast_dataclass
class ErrorRule:
    """One row of the table; all conditions that it gives must hold.

    ``http`` holds statuses: ``"429"``, ``"5xx"``, ``"520-524"``; ``names`` the error's codes or types; ``text`` is a
    regular expression, searched anywhere in the error. ``wait_s`` is the minimum wait, ``base_s`` the first back-off.
    ``code`` replaces the provider's own. A run that halts on this row shows ``says`` and ``hint`` to the user.
    """

    name: str
    action: Action
    why: str
    phases: frozenset[Phase] = frozenset({Phase.CREATE})
    replies: frozenset[ReplyKind] = frozenset({ReplyKind.ERROR})
    http: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    text: str | None = None
    should_retry: bool | None = None
    # The provider's message names a limit, and a single request that exceeds it.
    oversized: bool = False
    nameless: bool = False
    reach: Reach = Reach.REQUEST
    code: str | None = None
    wait_s: float | None = None
    base_s: float = 1.0
    most_attempts: int | None = None
    says: str = ""
    hint: str | None = None

    def matches(self, problem: Problem, phase: Phase) -> bool:
        """Whether this row applies to that problem at that step."""
        if phase not in self.phases or _reply_kind(problem) not in self.replies:
            return False
        if self.http and (isinstance(problem, NeverSent) or not _covers(self.http, problem.status)):
            return False
        return not isinstance(problem, Refused) or self._matches_error(problem)

    def _matches_error(self, error: Refused) -> bool:
        return (
            (not self.names or error.code in self.names or error.type in self.names)
            and (self.text is None or re.search(self.text, _words(error), re.IGNORECASE | re.DOTALL) is not None)
            and (self.should_retry is None or error.should_retry is self.should_retry)
            and (not self.oversized or _is_oversized(error.message))
            and (not self.nameless or not error.code)
        )

    @property
    def when(self) -> str:
        """What it matches, in words, for the documentation."""
        parts = [str(kind) for kind in sorted(self.replies) if kind is not ReplyKind.ERROR]
        if self.http:
            parts.append("HTTP " + ", ".join(self.http))
        if self.names:
            parts.append("code or type " + ", ".join(sorted(self.names)))
        if self.text:
            parts.append(f"text /{self.text}/")
        if self.should_retry is not None:
            parts.append(f"x-should-retry: {str(self.should_retry).lower()}")
        if self.oversized:
            parts.append("the message names a limit that this one request exceeds")
        if self.nameless:
            parts.append("no code")
        return "; ".join(parts) or "anything else"


@fast_dataclass
class Override:
    """A user's rule for an error whose status is misleading on this server.

    All conditions given must match; ``text`` is searched anywhere in the error, in any case. Only errors that a
    server answers with can be overridden: a lost reply stays lost whatever the config says.
    """

    action: Action
    status: int | None = None
    code: str | None = None
    text: str | None = None
    phase: Phase = Phase.CREATE

    def __post_init__(self) -> None:
        if self.status is None and not self.code and not self.text:
            raise ValueError("an error is named by its status, its code or a text; none is given")
        if self.action not in _POSSIBLE[self.phase]:
            raise ValueError(
                f"{self.action} is not possible here; allowed: {', '.join(sorted(_POSSIBLE[self.phase]))}"
            )

    def rule(self) -> ErrorRule:
        """Returns it as a row of the table."""
        return ErrorRule(
            name="config",
            action=self.action,
            why="The config says so.",
            phases=frozenset({self.phase}),
            http=(str(self.status),) if self.status is not None else (),
            names=frozenset({self.code} if self.code else ()),
            text=re.escape(self.text) if self.text else None,
            says="this error stops the run, as the config asks",
        )


_SENDABLE_AGAIN = {Action.RETRY, Action.RATE_LIMITED, Action.SLOW_DOWN, Action.OUTAGE, Action.HALT}
_POSSIBLE: dict[Phase, frozenset[Action]] = {
    Phase.CREATE: frozenset({*_SENDABLE_AGAIN, Action.FULL, Action.FAIL, Action.IN_DOUBT}),
    Phase.POLL: frozenset({*_SENDABLE_AGAIN, Action.MISSING}),
    Phase.FAILED: frozenset({*_SENDABLE_AGAIN, Action.FAIL}),
}


def _reply_kind(problem: Problem) -> ReplyKind:
    match problem:
        case NeverSent(local=True):
            return ReplyKind.NO_CONNECTION
        case NeverSent():
            return ReplyKind.NOTHING_SENT
        case ReplyLost(response_id=str()):
            return ReplyKind.ONLY_ID
        case ReplyLost(unreadable=True):
            return ReplyKind.UNREADABLE
        case ReplyLost():
            return ReplyKind.NOTHING
        case Refused():
            return ReplyKind.ERROR


def _covers(patterns: Iterable[str], status: int | None) -> bool:
    if status is None:
        return False
    for pattern in patterns:
        low, _, high = pattern.partition("-")
        if pattern.endswith("xx"):
            low, high = f"{pattern[0]}00", f"{pattern[0]}99"
        if int(low) <= status <= int(high or low):
            return True
    return False


def _words(error: Refused) -> str:
    return f"{error.code or ''} {error.type or ''} {error.message}"


_LIMIT = re.compile(r"\blimit:?\s+(\d[\d,]{0,17})", re.IGNORECASE | re.ASCII)
_REQUESTED = re.compile(r"\brequested:?\s+(\d[\d,]{0,17})", re.IGNORECASE | re.ASCII)


def _is_oversized(message: str) -> bool:
    limit, requested = _LIMIT.search(message), _REQUESTED.search(message)
    if limit and requested:
        return _number(requested[1]) > _number(limit[1])
    return "request too large" in message.lower()


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))
