"""Why a run takes its lane, in words and for scripts."""

from __future__ import annotations

from orchestrator.core.lanes import Lane
from orchestrator.engine.lane_notes import LaneNote
from orchestrator.report.lanes_taken import lanes_object, lanes_words

AT = 1_795_291_200.0
EARLIER = LaneNote(at=AT, stage="main", lane=Lane.WINDOW_8H, why="it ends in time", reconsider_at=AT + 3600)
LATER = LaneNote(at=AT + 60, stage="main", lane=Lane.BACKGROUND, why="little time is left")
REVIEW = LaneNote(at=AT, stage="review", lane=Lane.SYNC, why="the job says so")


def test_the_latest_lane_is_given_with_its_reason() -> None:
    assert lanes_words([EARLIER]) == (
        "window-8h, because it ends in time; to be reconsidered at 2026-11-21 21:00:00 UTC"
    )
    assert lanes_words([EARLIER], over=True) == "window-8h, because it ends in time"
    assert lanes_words([EARLIER, LATER]) == "background, because little time is left"


def test_each_stage_has_its_own_lane() -> None:
    both = lanes_words([EARLIER, REVIEW, LATER])
    assert both == "background, because little time is left; review: sync, because the job says so"


def test_scripts_read_every_lane_that_was_taken() -> None:
    first, second = lanes_object([EARLIER, LATER])
    assert first == {
        "at": "2026-11-21T20:00:00Z",
        "stage": "main",
        "lane": "window-8h",
        "why": "it ends in time",
        "reconsider_at": "2026-11-21T21:00:00Z",
    }
    assert (second["lane"], second["reconsider_at"]) == ("background", None)
    assert lanes_object([]) == []
