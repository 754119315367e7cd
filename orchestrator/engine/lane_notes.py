"""Which lanes a run has taken, since when, and why: kept beside the run, for ``status`` and for the next process."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.stores.base import LearnedReader, Store

__all__ = ["LaneNote", "lane_notes", "name_of_lanes", "note_lane"]


@fast_dataclass
class LaneNote:
    """From a time on, the requests of a stage take a lane. ``reconsider_at`` is when that may change."""

    at: float
    stage: str
    lane: Lane
    why: str
    reconsider_at: float | None = None


def name_of_lanes(run_id: int) -> str:
    """The name under which the lanes of a run are kept."""
    return f"lanes:{run_id}"


async def lane_notes(reader: LearnedReader, run_id: int) -> list[LaneNote]:
    """All notes of a run, in their order."""
    kept = await reader.recall(name_of_lanes(run_id))
    notes = orjson.loads(kept) if kept is not None else []
    return [LaneNote(**{**note, "lane": Lane(note["lane"])}) for note in notes]


async def note_lane(store: Store, run_id: int, notes: Sequence[LaneNote], note: LaneNote) -> list[LaneNote]:
    """Keep one note more, unless it says what the latest one of its stage says; returns all."""
    latest = next((each for each in reversed(notes) if each.stage == note.stage), None)
    if latest is not None and (latest.lane, latest.why) == (note.lane, note.why):
        return list(notes)
    both = [*notes, note]
    await store.remember(name_of_lanes(run_id), orjson.dumps(both))
    return both
