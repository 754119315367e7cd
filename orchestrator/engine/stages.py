"""One stage of a run: its settings, and what the run has learned about its requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.core.lanes import Lane
from orchestrator.engine.poll_schedules import Schedules
from orchestrator.engine.settings import StageSettings
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls

__all__ = ["Stage", "Stages"]


@dataclass(slots=True, kw_only=True, eq=False)
class Stage:
    """The settings and the state of one stage; each request belongs to one.

    First tries belong to a stage: a wrong model in the third stage must stop the run, although the first two worked.
    So do latencies, because stages differ in how long their answers take.
    """

    name: str
    settings: StageSettings
    # One of each for every endpoint.
    first_creates: Sequence[FirstCreates]
    first_polls: Sequence[FirstPolls]
    schedules: Schedules
    # The lane that its requests take from now on, and those whose open responses are cancelled.
    lane: Lane = Lane.BACKGROUND
    cancelled_lanes: set[Lane] = field(default_factory=set)
    # What a lane took for an ended response, until it is remembered: model, lane, seconds.
    took: list[tuple[str, Lane, float]] = field(default_factory=list)
    # Lanes that a model has refused: its requests are sent to the background.
    refused: set[tuple[str, Lane]] = field(default_factory=set)
    # False while the first request has no answer yet and others wait for it (``settings.warm_cache``).
    cache_is_warm: bool = True

    def lane_for(self, model: str) -> Lane:
        """The lane that a request to a model takes now."""
        return Lane.BACKGROUND if (model, self.lane) in self.refused else self.lane


Stages: TypeAlias = Mapping[str, Stage]
