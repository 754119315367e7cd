"""The endpoints of a run: how each is called, how much of it may be used, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.engine.allowances import Allowances
from orchestrator.engine.items import Halted
from orchestrator.engine.outages import Outages
from orchestrator.executors.registry import Executors
from orchestrator.policy.errors.error_rules import Override
from orchestrator.policy.errors.resumed_polls import ResumedPolls

__all__ = ["Closed", "RunEndpoint", "RunEndpoints"]


@fast_dataclass(kw_only=False)
class Closed:
    """Why nothing is sent from a time until another, and then one request first; ``times`` in a row."""

    reason: Halted
    at: float
    until: float
    times: int


@dataclass(slots=True, kw_only=True, eq=False)
class RunEndpoint:
    """One endpoint, with limits and circuit breakers of its own; requests and responses name it by its place."""

    executors: Executors
    allowances: Allowances
    outages: Outages
    # None: it is the only one.
    name: str | None = None
    weight: float = 1.0
    overrides: Sequence[Override] = ()
    # What polls have shown of the responses that an earlier process left open.
    resumed_polls: ResumedPolls = field(default_factory=ResumedPolls)
    # Calls on the wire: creates, those of them that are held until their response has ended, and polls.
    sending: int = 0
    holding: int = 0
    polling: int = 0
    # It refuses everything, or these models, while others work; and whether it refuses polls.
    closed: Closed | None = None
    closed_models: dict[str, Closed] = field(default_factory=dict)
    polls_refused: bool = False


RunEndpoints: TypeAlias = Sequence[RunEndpoint]
