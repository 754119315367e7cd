"""How long a response may take before it is given up, and until when a run sends new requests."""

from __future__ import annotations

import re

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["CANCEL_GRACE_S", "Timeouts", "gives_up_at", "grace_expired", "may_send", "overdue"]

# How long a cancelled response is polled before it is abandoned: cancelling is best effort, and a server that lost
# the work behind an id answers "in_progress" forever (responses API, "seen on real servers").
CANCEL_GRACE_S = 30.0

# Some servers call it ``pending``.
_WAITING = frozenset({"queued", "pending"})

_WINDOW = re.compile(r"(\d+)([mh])")
_UNIT_S = {"m": 60.0, "h": 3600.0}


@fast_dataclass
class Timeouts:
    """Timeouts of one response, in seconds from its acceptance.

    ``queued_s`` applies while it waits to be started, ``run_s`` in any state.
    """

    queued_s: float = 3600.0
    run_s: float = 6 * 3600.0

    def scaled(self, window: str | None) -> Timeouts:
        """Returns the timeouts for a discounted ``background_options.completion_window`` ("2h", "8h").

        The length of the window is added, because the discount pays for waiting that long.
        """
        bought = _WINDOW.fullmatch(window) if window else None
        if bought is None:
            return self
        extra_s = int(bought[1]) * _UNIT_S[bought[2]]
        return Timeouts(queued_s=self.queued_s + extra_s, run_s=self.run_s + extra_s)


def overdue(
    status: str, *, accepted_at: float, now: float, timeouts: Timeouts, window: str | None = None
) -> str | None:
    """Returns the code with which a response is given up now, or None if no timeout has passed.

    An unknown status counts as running, so that it cannot keep a request open forever.
    """
    code, at = _timeout_of(status, accepted_at, timeouts.scaled(window))
    return code if now >= at else None


def gives_up_at(status: str, *, accepted_at: float, timeouts: Timeouts, window: str | None = None) -> float:
    """Returns when ``overdue`` first gives it up if the status does not change: poll then at the latest."""
    return _timeout_of(status, accepted_at, timeouts.scaled(window))[1]


def _timeout_of(status: str, accepted_at: float, timeouts: Timeouts) -> tuple[str, float]:
    if status in _WAITING and timeouts.queued_s < timeouts.run_s:
        return "queued_timeout", accepted_at + timeouts.queued_s
    return "run_timeout", accepted_at + timeouts.run_s


def grace_expired(*, cancelled_at: float, now: float, grace_s: float = CANCEL_GRACE_S) -> bool:
    """Whether to stop waiting for the end of a response that was given up and cancelled."""
    return now - cancelled_at >= grace_s


def may_send(at: float, deadline_at: float | None) -> bool:
    """Whether a new request may be sent at that time; open responses are still polled to their end."""
    return deadline_at is None or at < deadline_at
