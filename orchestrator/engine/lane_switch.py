"""Changes the lane of a stage while it runs: what is ready is made ready again, and the reason is kept and shown."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import OpenResponse
from orchestrator.engine.lane_notes import LaneNote, lane_notes, note_lane
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.executors.base import Executor
from orchestrator.executors.registry import Executors

__all__ = ["LaneSwitch"]

_ASKED = "the job says so"
_IGNORED = "the server ignores background: true, so calls are held until the answer is there"


class LaneSwitch:
    """Knows which lane each stage takes, and moves a stage to another one."""

    def __init__(self, run: RunContext, queue: SendQueue, executors: Executors) -> None:
        self._run = run
        self._queue = queue
        self._executors = executors
        self._notes: Sequence[LaneNote] = ()
        # Whether a create call in the background came back before its response had ended.
        self._has_background = False
        self._warned = False

    def executor(self, lane: Lane) -> Executor:
        """The executor of a lane."""
        return self._executors.of(lane)

    async def recall(self) -> None:
        """Read what an earlier process of the run noted; the run begins."""
        self._notes = await lane_notes(self._run.reader, self._run.record.id)
        for stage in self._run.stages.values():
            latest = next((note for note in reversed(self._notes) if note.stage == stage.name), None)
            if latest is not None and latest.why == _IGNORED and stage.lane is Lane.BACKGROUND:
                stage.lane = latest.lane
            elif stage.lane is not Lane.BACKGROUND:
                await self.change(stage, stage.lane, _ASKED)
        self._show()

    async def change(self, stage: Stage, lane: Lane, why: str, *, reconsider_at: float | None = None) -> None:
        """From now on the requests of a stage take a lane; what is sent already stays in its own."""
        old = stage.lane
        note = LaneNote(at=self._run.clock.now(), stage=stage.name, lane=lane, why=why, reconsider_at=reconsider_at)
        stage.lane = lane
        if old is not lane:
            self._queue.change_lane(stage.name, old, lane)
        self._show()
        self._notes = await note_lane(self._run.store, self._run.record.id, self._notes, note)

    def answered_later(self) -> None:
        """A create call in the background came back before its response had ended: the server does not ignore it."""
        self._has_background = True

    async def answered(self, open_: OpenResponse) -> None:
        """A create call came back with the ended response: if that is what this server does, calls are held."""
        if self._has_background or open_.lane is not Lane.BACKGROUND or open_.stage.lane is not Lane.BACKGROUND:
            return
        if not self._executors.of(Lane.BACKGROUND).capabilities.poll or self._executors.of(open_.lane).streams:
            return
        for stage in self._run.stages.values():
            if stage.lane is Lane.BACKGROUND:
                await self.change(stage, Lane.SYNC, _IGNORED)
        if not self._warned:
            self._warned = True
            self._run.observation.warn(
                "background_ignored", f"{_IGNORED}; lane: sync in the job says so from the beginning"
            )

    def _show(self) -> None:
        lanes = dict.fromkeys(stage.lane.value for stage in self._run.stages.values())
        self._run.observation.progress.lanes = tuple(lanes)
