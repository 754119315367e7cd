"""Changes the lane of a stage while it runs: what is ready is made ready again, and the reason is kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from orchestrator.core import exact_json
from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.core.model import Response
from orchestrator.core.problems import Refused
from orchestrator.engine.items import OpenResponse, Prepared
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.engine.lane_notes import LaneNote, lane_notes, note_lane
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.tasks.send_queue import SendQueue

__all__ = ["LaneSwitch"]

_ASKED = "the job says so"
_IGNORED = "the server ignores background: true, so calls are held until the answer is there"


class LaneSwitch:
    """Knows which lane each stage takes, and moves a stage to another one."""

    def __init__(self, run: RunContext, queue: SendQueue, memory: LaneMemory) -> None:
        self._run = run
        self.memory = memory
        self._queue = queue
        self._notes: Sequence[LaneNote] = ()
        # Whether a create call in the background came back before its response had ended.
        self._has_background = False
        self._warned = False

    async def recall(self) -> None:
        """Read what an earlier process of the run noted; the run begins."""
        self._notes = await lane_notes(self._run.reader, self._run.record.id)
        for stage in self._run.stages.values():
            stage.refused |= self.memory.refusals()
            latest = self.latest(stage)
            if latest is not None and latest.why != _ASKED and self._continues(stage, latest):
                stage.lane = latest.lane
                left = {note.lane for note in self._notes if note.stage == stage.name} - {latest.lane}
                stage.cancelled_lanes |= left & WINDOWS.keys()
                if Lane.BATCH in left:
                    self._run.status.recalled_stages.add(stage.name)
            elif stage.lane is not Lane.BACKGROUND:
                await self.change(stage, stage.lane, _ASKED)
        self._show()

    def _continues(self, stage: Stage, latest: LaneNote) -> bool:
        """Whether what an earlier process chose still holds: not if the job has asked for another lane since."""
        return stage.lane is Lane.BACKGROUND or any(
            note.lane is stage.lane and note.at <= latest.at for note in self._notes if note.stage == stage.name
        )

    def latest(self, stage: Stage) -> LaneNote | None:
        """The latest note of a stage, of this process or of an earlier one of the run."""
        return next((note for note in reversed(self._notes) if note.stage == stage.name), None)

    async def refused(self, stage: Stage, prepared: Prepared) -> None:
        """A model has refused a lane: from now on its requests are sent to the background, in later runs too."""
        model, lane = prepared.model, prepared.lane
        if (model, lane) in stage.refused:
            return
        stage.refused.add((model, lane))
        self.memory.note_refusal(model, lane)
        self._queue.leave_lane(stage.name, lane, model)
        message = f"{model} refuses the lane {lane}; its requests are sent to the background, at the standard price"
        self._run.observation.warn("lane_refused", message)

    async def change(
        self, stage: Stage, lane: Lane, why: str, *, reconsider_at: float | None = None, cancel: bool = False
    ) -> None:
        """From now on the requests of a stage take a lane; with ``cancel``, open ones of the old lane do, too."""
        old = stage.lane
        note = LaneNote(at=self._run.clock.now(), stage=stage.name, lane=lane, why=why, reconsider_at=reconsider_at)
        stage.lane = lane
        stage.cancelled_lanes.discard(lane)
        if lane is Lane.BATCH:
            self._run.status.recalled_stages.discard(stage.name)
        if old is not lane:
            self._queue.change_lane(stage.name, old, lane)
            if cancel:
                self._cancel_open(stage, old)
        self._show()
        self._notes = await note_lane(self._run.store, self._run.record.id, self._notes, note)

    async def _is_unknown(self, open_: OpenResponse, response_id: str) -> bool:
        """Whether the server says that it does not know a response that it has just answered with."""
        executors = self._run.endpoints[open_.endpoint].executors
        answer = await executors.of(Lane.BACKGROUND).poll(response_id)
        self._run.observation.progress.polls += 1
        return isinstance(answer, Refused) and answer.status == HTTPStatus.NOT_FOUND

    def _cancel_open(self, stage: Stage, lane: Lane) -> None:
        status = self._run.status
        if lane is Lane.BATCH:
            status.recalled_stages.add(stage.name)
            status.batch_signal.set()
            return
        stage.cancelled_lanes.add(lane)
        status.poll_queue.poll_all_now(self._run.clock.now())
        status.poll_signal.set()

    def answered_later(self) -> None:
        """A create call in the background came back before its response had ended: the server does not ignore it."""
        self._has_background = True

    async def answered(self, open_: OpenResponse, response: Response) -> None:
        """A create call came back with the ended response: if that is what this server does, calls are held.

        One such reply says so, unless it claims to be of a background response and the server keeps it: that was
        only quick.
        """
        if self._has_background or open_.lane is not Lane.BACKGROUND or open_.stage.lane is not Lane.BACKGROUND:
            return
        executors = self._run.endpoints[open_.endpoint].executors
        if not executors.of(Lane.BACKGROUND).capabilities.poll or executors.of(open_.lane).streams:
            return
        if _claims_background(response):
            # One answer is enough for all.
            self._has_background = True
            if not await self._is_unknown(open_, response.id):
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


def _claims_background(response: Response) -> bool:
    try:
        said = exact_json.loads(response.body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("background") is True
