"""What the engine must know of a job and a config, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.money import Picodollars
from orchestrator.policy.deadlines import Timeouts
from orchestrator.policy.judgement import OnIncomplete, Override

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is carried out. Times are seconds."""

    attempts: int
    on_incomplete: OnIncomplete
    timeouts: Timeouts
    resend_below_pusd: Picodollars
    max_in_flight: int
    overrides: tuple[Override, ...] = ()
    # Calls on the wire at once; a background create is short, so a few dozen carry thousands of open responses.
    creates_at_once: int = 64
    polls_at_once: int = 64
    # How long an unreachable provider is tried at the very start, before anything has ever been answered.
    first_contact_s: float = 5.0
    # How long a stop waits for creates on the wire, so that their ids are not lost.
    stop_grace_s: float = 3.0
