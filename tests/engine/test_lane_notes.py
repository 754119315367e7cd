"""Which lanes a run took is kept beside the run, with the reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.engine.lane_notes import LaneNote, lane_notes, note_lane

from .builders import NOW, Rig

pytestmark = pytest.mark.anyio

FIRST = LaneNote(at=NOW, stage="main", lane=Lane.WINDOW_8H, why="it ends in time", reconsider_at=NOW + 60)
SECOND = LaneNote(at=NOW + 60, stage="main", lane=Lane.BACKGROUND, why="little time is left")
OTHER = LaneNote(at=NOW, stage="review", lane=Lane.BACKGROUND, why="little time is left")


async def test_a_run_that_took_no_lane_has_no_notes(rig: Rig) -> None:
    assert await lane_notes(rig.reader, rig.record.id) == []


async def test_notes_are_read_as_they_were_kept(rig: Rig) -> None:
    notes: list[LaneNote] = []
    for note in (FIRST, OTHER, SECOND):
        notes = await note_lane(rig.store, rig.record.id, notes, note)
    assert await lane_notes(rig.reader, rig.record.id) == notes == [FIRST, OTHER, SECOND]


async def test_what_is_known_already_is_not_noted_again(rig: Rig) -> None:
    notes = await note_lane(rig.store, rig.record.id, [FIRST, OTHER], replace(FIRST, at=NOW + 9))
    assert notes == [FIRST, OTHER]
    assert await lane_notes(rig.reader, rig.record.id) == []


async def test_the_notes_of_runs_are_apart(rig: Rig) -> None:
    await note_lane(rig.store, rig.record.id, [], FIRST)
    assert await lane_notes(rig.reader, rig.record.id + 1) == []
