"""Chooses the lane of each stage by the time that is left, and again when that may have changed."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import AUTO, WINDOWS, Lane
from orchestrator.core.states import SETTLED
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.engine.lane_switch import LaneSwitch
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.policy.auto_lane import FEWEST_ROWS, choose_lane, switch_time

__all__ = ["LaneChooser", "LanePlan"]

# Lanes that a job may name and that may not be done by its deadline.
_SLOW = (*WINDOWS, Lane.FLEX, Lane.BATCH)
_TIME_IS_SHORT = "the background needs all the time that is left before the deadline"
# A stage whose rows are still being made is given another choice so often.
_CHOOSE_AGAIN_S = 60.0


@fast_dataclass
class LanePlan:
    """What the job asks of a stage's lane: a lane or ``auto``; the model, if all rows name the same.

    ``offered`` are the lanes that ``auto`` may choose, ``prices`` what they cost beside the standard price. Each row
    passes ``stages_left`` stages, this one among them.
    """

    asked: str
    model: str
    offered: tuple[Lane, ...]
    prices: Mapping[Lane, float]
    stages_left: int = 1


class LaneChooser:
    """Chooses the lanes of stages with ``auto``, and leaves slow lanes while the background can still do the rest."""

    def __init__(
        self, run: RunContext, switch: LaneSwitch, memory: LaneMemory, plans: Mapping[str, LanePlan]
    ) -> None:
        self._run = run
        self._switch = switch
        self._memory = memory
        self._plans = plans
        self._choose_at: dict[str, float | None] = {}
        self._was_slow = False

    async def recall(self) -> None:
        """Continue as an earlier process of the run; the run begins."""
        await self._switch.recall()
        for stage in self._run.stages.values():
            plan, latest = self._plans[stage.name], self._switch.latest(stage)
            if plan.asked == AUTO and latest is not None:
                self._choose_at[stage.name] = latest.reconsider_at
            elif plan.asked == AUTO:
                self._choose_at[stage.name] = 0.0
                self._run.status.lane_undecided |= len(self._run.stages) == 1

    async def check(self) -> None:
        """Choose again where it is time."""
        for stage in self._run.stages.values():
            for model, lane, seconds in stage.took:
                self._memory.note_duration(model, lane, seconds)
            stage.took.clear()
            plan = self._plans[stage.name]
            if plan.asked == AUTO:
                await self._choose(stage, plan)
            elif stage.lane in _SLOW:
                await self._leave_in_time(stage, plan)
            self._was_slow |= stage.lane is not Lane.BACKGROUND

    def finish(self) -> None:
        """The run ends: remember how fast the background was, if all rows were sent there."""
        progress = self._run.observation.progress
        took_s = self._run.clock.now() - progress.started_at
        if len(self._plans) == 1 and not self._was_slow and progress.settled_here >= FEWEST_ROWS and took_s > 0:
            [plan] = self._plans.values()
            self._memory.note_pace(plan.model, progress.settled_here / took_s)

    async def _choose(self, stage: Stage, plan: LanePlan) -> None:
        run, now = self._run, self._run.clock.now()
        choose_at = self._choose_at[stage.name]
        refused = (plan.model, stage.lane) in stage.refused
        if not refused and (choose_at is None or now < choose_at):
            return
        if run.status.lane_undecided and not run.status.planned:
            return
        choice = choose_lane(
            now,
            run.record.deadline_at,
            await self._rows_left(stage) * plan.stages_left,
            self._memory.history(plan.model),
            plan.prices,
            [lane for lane in plan.offered if not self._memory.refuses(plan.model, lane)],
        )
        # Rows of a stage come while it runs: few of them now may be many later.
        grows = len(run.stages) > 1 and choice.lane is Lane.BACKGROUND
        self._choose_at[stage.name] = now + _CHOOSE_AGAIN_S if grows else choice.reconsider_at
        await self._switch.change(
            stage, choice.lane, choice.why, reconsider_at=choice.reconsider_at, cancel=stage.lane is not choice.lane
        )
        run.status.lane_undecided = False
        run.status.send_signal.set()

    async def _leave_in_time(self, stage: Stage, plan: LanePlan) -> None:
        run = self._run
        if run.record.deadline_at is None:
            return
        rows = await self._rows_left(stage) * plan.stages_left
        if run.clock.now() >= switch_time(run.record.deadline_at, rows, self._memory.history(plan.model)):
            # What runs at the tier flex is not faster elsewhere.
            cancel = stage.lane is not Lane.FLEX
            await self._switch.change(stage, Lane.BACKGROUND, _TIME_IS_SHORT, cancel=cancel)

    async def _rows_left(self, stage: Stage) -> int:
        if len(self._run.stages) == 1:
            requests = self._run.observation.progress.requests
            return sum(count for state, count in requests.items() if state not in SETTLED)
        tally = await self._run.reader.stage_tally(self._run.record.id)
        return sum(count for state, count in tally.get(stage.name, {}).items() if state not in SETTLED)
