"""How long a response may take before it is given up, and until when a run sends anything new."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CANCEL_GRACE_S", "Timeouts", "gives_up_at", "grace_expired", "may_send", "overdue"]

# How long a cancelled response is looked at before it is left to itself: cancelling is best effort, and a server
# that has lost the work behind an id answers "in_progress" for ever (responses API, "seen on real servers").
CANCEL_GRACE_S = 30.0

# ``pending`` is what some other servers call it.
_WAITING = frozenset({"queued", "pending"})

_WINDOW = re.compile(r"(\d+)([mh])")
_UNIT_S = {"m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Patience with one response, in seconds from its acceptance.

    ``queued_s`` ends it while it waits to be started, ``run_s`` in whatever state it is.
    """

    queued_s: float = 3600.0
    run_s: float = 6 * 3600.0

    def scaled(self, window: str | None) -> Timeouts:
        """For a discounted ``background_options.completion_window`` ("2h", "8h"), whose length comes on top.

        To wait so long is what was bought; only beyond it does our own patience begin.
        """
        bought = _WINDOW.fullmatch(window) if window else None
        if bought is None:
            return self
        extra_s = int(bought[1]) * _UNIT_S[bought[2]]
        return Timeouts(queued_s=self.queued_s + extra_s, run_s=self.run_s + extra_s)


def overdue(
    status: str, *, accepted_at: float, now: float, timeouts: Timeouts, window: str | None = None
) -> str | None:
    """The code under which a response is given up now, or None while there is patience left.

    An unknown status counts as running: a word we cannot read must not keep a request open for ever.
    """
    code, at = _timeout_of(status, accepted_at, timeouts.scaled(window))
    return code if now >= at else None


def gives_up_at(status: str, *, accepted_at: float, timeouts: Timeouts, window: str | None = None) -> float:
    """The moment at which ``overdue`` first says so, if the status stays what it is: look then at the latest."""
    return _timeout_of(status, accepted_at, timeouts.scaled(window))[1]


def _timeout_of(status: str, accepted_at: float, patience: Timeouts) -> tuple[str, float]:
    if status in _WAITING and patience.queued_s < patience.run_s:
        return "queued_timeout", accepted_at + patience.queued_s
    return "run_timeout", accepted_at + patience.run_s


def grace_expired(*, cancelled_at: float, now: float, grace_s: float = CANCEL_GRACE_S) -> bool:
    """Whether a response that was given up and cancelled, and still has not ended, is waited for no longer."""
    return now - cancelled_at >= grace_s


def may_send(at: float, deadline_at: float | None) -> bool:
    """Whether anything new may leave at that moment; what is open then is still followed to its end."""
    return deadline_at is None or at < deadline_at
