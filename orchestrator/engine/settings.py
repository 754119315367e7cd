"""How the requests of one stage are carried out: the job and the config as plain values."""

from __future__ import annotations

from typing import Literal

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.job.requests.compose import RequestRules
from orchestrator.policy.errors.judgement import AnswerPolicy
from orchestrator.policy.polling.deadlines import Timeouts

__all__ = ["StageSettings"]


@fast_dataclass
class StageSettings:
    """How the requests of one stage are carried out. Times are seconds."""

    attempts: int
    timeouts: Timeouts
    # A request whose reply was lost is sent again if it can cost less than this.
    resend_below_pusd: Picodollars
    # What is added to every request beyond the job's own fields.
    rules: RequestRules = RequestRules()
    # The most that a request can cost whose cost has no other bound.
    request_bound_pusd: Picodollars | None = None
    answers: AnswerPolicy = AnswerPolicy()
    # How the turns of a chain are linked; None if rows form no chains.
    chain_mode: Literal["previous_response", "conversation", "stateless"] | None = None
    # Whether duplicates within the run are sent once, and how old a reused answer of another run may be (None: no
    # reuse).
    ask_once: bool = True
    reuse_max_age_s: float | None = None
    # Whether the first request is answered before others are sent.
    warm_cache: bool = False
