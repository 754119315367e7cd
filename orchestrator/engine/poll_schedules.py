"""A learned poll schedule for each model, kept from run to run of the same job."""

from __future__ import annotations

import random

import orjson

from orchestrator.policy.polling.announcements import Announced
from orchestrator.policy.polling.schedule import PollSchedule

__all__ = ["Schedules"]


class Schedules:
    """The poll schedules of a run by model: models answer at different speeds, and share the allowance for polls."""

    def __init__(self, rng: random.Random, *, polls_per_minute: float) -> None:
        self._rng = rng
        self._polls_per_minute = polls_per_minute
        self._by_model: dict[str, PollSchedule] = {}
        self._learned: dict[str, bytes] = {}

    def of(self, model: str) -> PollSchedule:
        """The schedule for the responses of a model, by the name that was requested."""
        schedule = self._by_model.get(model)
        if schedule is None:
            schedule = PollSchedule(
                self._rng,
                polls_per_minute=self._polls_per_minute,
                sharers=self._by_model.values(),
                learned=self._learned.get(model),
            )
            self._by_model[model] = schedule
        return schedule

    def adapt(self, *, nothing_to_send: bool, announced: Announced) -> None:
        """Set for all schedules whether the run only waits for open responses, and whether ends are announced."""
        for schedule in self._by_model.values():
            schedule.nothing_to_send, schedule.announced = nothing_to_send, announced

    def dump(self) -> bytes:
        """What was learned, as one JSON object by model."""
        learned = {**self._learned, **{model: each.dump() for model, each in self._by_model.items()}}
        return orjson.dumps({model: orjson.Fragment(table) for model, table in learned.items()})

    def load(self, learned: bytes) -> None:
        """Load what an earlier run learned; what cannot be read is ignored."""
        try:
            tables = orjson.loads(learned)
        except orjson.JSONDecodeError:
            return
        if isinstance(tables, dict):
            self._learned = {model: orjson.dumps(table) for model, table in tables.items()}
