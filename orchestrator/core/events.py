"""What a running engine reports: events for logs, and live counts for displays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Usage
from orchestrator.core.money import Picodollars
from orchestrator.core.states import State

__all__ = [
    "Observer",
    "OutageBegan",
    "OutageEnded",
    "Progress",
    "RowSkipped",
    "RunEnded",
    "RunEvent",
    "RunStarted",
    "Settled",
    "Warned",
]


@fast_dataclass
class RunStarted:
    """A run starts or resumes."""

    run: str
    job: str
    resumed: bool
    database: str


@fast_dataclass
class RowSkipped:
    """A bad input row was skipped, as ``input.on_bad_row: skip`` asks."""

    where: str
    reason: str


@fast_dataclass
class Settled:
    """A request reached its final state."""

    key: str
    state: State
    code: str | None
    response_id: str | None
    status: str | None
    attempts: int
    usage: Usage | None
    cost_pusd: Picodollars | None
    elapsed_s: float


@fast_dataclass
class OutageBegan:
    """The provider serves no requests; nothing new is sent except a probe at intervals."""

    reason: str


@fast_dataclass
class OutageEnded:
    """The provider serves requests again."""

    lasted_s: float


@fast_dataclass
class Warned:
    """A warning that does not stop the run; ``code`` is stable, ``message`` is for people."""

    code: str
    message: str


@fast_dataclass
class RunEnded:
    """The engine stopped; the state of the run and ``reason`` say why."""

    run: str
    state: str
    reason: str | None


RunEvent: TypeAlias = RunStarted | RowSkipped | Settled | OutageBegan | OutageEnded | Warned | RunEnded
Observer: TypeAlias = Callable[[RunEvent], None]


@dataclass(slots=True)
class Progress:
    """The live counts of one run, written by the engine and read by displays at any time.

    ``requests`` counts by state over the whole run, including earlier processes. ``waiting_for`` names what holds
    sending back now: ``"rate limit"``, ``"budget"``, ``"outage"`` or ``None``; ``waiting_until`` is the next attempt.
    """

    run: str = ""
    started_at: float = 0.0
    requests: Counter[State] = field(default_factory=Counter)
    planned: int = 0
    planning_done: bool = False
    settled_here: int = 0
    polls: int = 0
    rate_limited: int = 0
    usage: Usage = Usage()
    cost_pusd: Picodollars = 0
    cost_unknown: int = 0
    reserved_pusd: Picodollars = 0
    budget_pusd: Picodollars | None = None
    # The cap that is used most (``run``, ``day``, ``month``), and its use in percent.
    budget_used: tuple[str, int] | None = None
    waiting_for: str | None = None
    waiting_until: float | None = None
    stopping: bool = False
    # The lanes that requests take now, in the order of the stages.
    lanes: tuple[str, ...] = ()
    # Of a job with stages, in their order: how many requests of each are in each state, as of the last second.
    stages: Mapping[str, Counter[State]] = field(default_factory=dict)
