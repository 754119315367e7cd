"""Distinguishes responses that have expired from a provider that never had them, when a run is resumed.

Under another key, project or address none of the responses that an earlier process left open is known. If each of
them counted as expired, all would be asked and paid for again although their answers are there. So until a poll has
found one of them, a response that is not found is only polled again; if the provider knows none of them, the run
halts and the user decides.
"""

from __future__ import annotations

from enum import StrEnum

from orchestrator.policy.errors.verdicts import Expired, Halt, PollAgain, PollVerdict

__all__ = ["Access", "ResumedPolls"]

_RECHECK_S = 20.0
# The provider keeps a stored response for at least so long (responses API, "store").
_KEPT_S = 30 * 86_400.0
# Under the same key and address, fewer responses than this may all have expired by chance.
_FEW = 3
# Under another one, so many polls without a trace of a response are enough: to halt loses nothing.
_POLLS = 2


class Access(StrEnum):
    """How the key, project and address of now compare with those under which a run's responses were created."""

    SAME = "same"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class ResumedPolls:
    """Judges the polls of responses that an earlier process left open.

    ``may_expire`` says that the user, or a server that costs nothing, lets all of them be requested again.
    """

    def __init__(self, access: Access = Access.SAME, *, may_expire: bool = False) -> None:
        self._access = access
        self._trusted = may_expire
        self._open: set[str] = set()
        self._missing: set[str] = set()

    def add(self, response_id: str, *, age_s: float) -> None:
        """Record a response that an earlier process left open; one that is too old may have expired."""
        if age_s < _KEPT_S:
            self._open.add(response_id)

    @property
    def is_unsure(self) -> bool:
        """Whether the provider may be one that never had the responses."""
        few = self._access is Access.SAME and len(self._open) < _FEW
        return bool(self._open) and not self._trusted and not few

    @property
    def holds_sending(self) -> bool:
        """Whether nothing new may be sent before one of the responses is found."""
        return self.is_unsure and self._access is Access.CHANGED

    def found(self) -> bool:
        """Record that the provider knows one of the responses; returns whether it is the first."""
        was_unsure, self._trusted = self.is_unsure, True
        return was_unsure

    def judge(self, response_id: str, verdict: PollVerdict, *, misses: int) -> PollVerdict:
        """Returns the verdict, a later poll in place of an early expiry, or a halt if no response is known."""
        if not self.is_unsure or response_id not in self._open or not self._is_missing(verdict, misses):
            return verdict
        self._missing.add(response_id)
        if not self._open <= self._missing:
            return PollAgain(_RECHECK_S, missing=True)
        return Halt(
            "responses_unknown",
            f"the provider knows none of the {len(self._open):,} responses that the run left open; "
            "is it another key, project or address?",
            "repeat the command with the key and the base URL under which they were created; if their answers are "
            "lost, --accept-expired requests them again",
        )

    def _is_missing(self, verdict: PollVerdict, misses: int) -> bool:
        if isinstance(verdict, Expired):
            return True
        soon = self._access is Access.CHANGED and misses >= _POLLS
        return soon and isinstance(verdict, PollAgain) and verdict.missing
