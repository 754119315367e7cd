"""What runs learn of lanes, by model: how fast each is, and which ones a model refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from orchestrator.core.lanes import Lane
from orchestrator.policy.auto_lane import LaneHistory

__all__ = ["LaneMemory"]

# What was seen longer ago says little about today.
_MOST_PACES, _MOST_DURATIONS = 20, 50


@dataclass(slots=True)
class _Learned:
    paces: list[float] = field(default_factory=list)
    durations: dict[Lane, list[float]] = field(default_factory=dict)
    refused: set[Lane] = field(default_factory=set)


class LaneMemory:
    """Paces, durations and refusals of one provider's models; ``dump`` and ``load`` keep it for later runs."""

    def __init__(self, batch_durations: Callable[[str], Sequence[float]] = lambda _: ()) -> None:
        """``batch_durations`` are those of whole batches of a model, which the lane of batches learns itself."""
        self._batch_durations = batch_durations
        self._models: dict[str, _Learned] = {}

    def history(self, model: str) -> LaneHistory:
        """What is known of a model's paces and durations."""
        known = self._models.get(model, _Learned())
        durations = {lane: tuple(each) for lane, each in known.durations.items()}
        if took := tuple(self._batch_durations(model)):
            durations[Lane.BATCH] = took
        return LaneHistory(paces=tuple(known.paces), durations=durations)

    def refuses(self, model: str, lane: Lane) -> bool:
        """Whether a model has refused a lane."""
        return model in self._models and lane in self._models[model].refused

    def refusals(self) -> set[tuple[str, Lane]]:
        """All models with the lanes that they have refused."""
        return {(model, lane) for model, known in self._models.items() for lane in known.refused}

    def note_refusal(self, model: str, lane: Lane) -> None:
        """A model refused a lane."""
        self._of(model).refused.add(lane)

    def note_pace(self, model: str, rows_per_s: float) -> None:
        """A run has answered so many rows per second in the background."""
        if rows_per_s > 0:
            known = self._of(model)
            known.paces = [*known.paces, rows_per_s][-_MOST_PACES:]

    def note_duration(self, model: str, lane: Lane, seconds: float) -> None:
        """What a lane was given took so long: a response in a window, or a whole batch."""
        known = self._of(model).durations
        known[lane] = [*known.get(lane, ()), seconds][-_MOST_DURATIONS:]

    def dump(self) -> bytes:
        """What is known, as JSON."""
        return orjson.dumps(
            {
                model: {
                    "paces": known.paces,
                    "durations": {lane.value: each for lane, each in known.durations.items()},
                    "refused": sorted(lane.value for lane in known.refused),
                }
                for model, known in self._models.items()
            }
        )

    def load(self, data: bytes) -> None:
        """Take over what an earlier run has kept; what cannot be read is learned again."""
        try:
            self._models = {
                model: _Learned(
                    [float(pace) for pace in known["paces"]],
                    {Lane(lane): [float(each) for each in took] for lane, took in known["durations"].items()},
                    {Lane(lane) for lane in known["refused"]},
                )
                for model, known in orjson.loads(data).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            self._models = {}

    def _of(self, model: str) -> _Learned:
        return self._models.setdefault(model, _Learned())
