"""What the engine must know of a job and a config, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.core.money import Picodollars
from orchestrator.job.requests.compose import RequestRules
from orchestrator.policy.errors.judgement import AnswerPolicy, Override
from orchestrator.policy.polling.deadlines import Timeouts
from orchestrator.stores.reads import SharedCaps

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is carried out. Times are seconds."""

    attempts: int
    timeouts: Timeouts
    resend_below_pusd: Picodollars
    max_in_flight: int
    # What is added to every request beyond the job's own fields.
    rules: RequestRules = RequestRules()
    # Caps over all runs of the database, and how requests are bounded that have no bound of their own.
    shared_caps: SharedCaps | None = None
    request_bound_pusd: Picodollars | None = None
    overrides: tuple[Override, ...] = ()
    answers: AnswerPolicy = AnswerPolicy()
    # How the turns of a chain are tied together; None where rows do not belong together.
    chain_mode: Literal["previous_response", "conversation", "stateless"] | None = None
    # Whether equal requests of the run are sent once, and how old an answer of another run may be (None: not taken).
    ask_once: bool = True
    reuse_max_age_s: float | None = None
    # Whether the first request is answered before others are sent.
    warm_cache: bool = False
    # Calls at once, each until what it brought is on disk: with half a second for a call, 15,000 creates a minute.
    # Both together are as many as an endpoint's connections.
    creates_at_once: int = 128
    polls_at_once: int = 128
    # Creates until the first one is accepted: where nothing can work, no more than these meet it.
    first_creates_at_once: int = 64
    # How long an unreachable provider is tried at the very start, before anything has ever been answered.
    first_contact_s: float = 5.0
    # How long a stop waits for creates on the wire, so that their ids are not lost.
    stop_grace_s: float = 3.0
