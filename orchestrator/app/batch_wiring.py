"""Puts the lane of batches together: what it has learned, its steps, its task."""

from __future__ import annotations

import orjson

from orchestrator.app.connections import address
from orchestrator.config import Config
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.engine.funds import Funds
from orchestrator.engine.learned_state import Snapshot
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import OtherRuns, Settle
from orchestrator.engine.steps.collect_batch import CollectBatch, CollectTimes
from orchestrator.engine.steps.send_batch import SendBatch
from orchestrator.engine.tasks.batch_lane import BatchLane, BatchSteps
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.policy.batches.batch_durations import BatchDurations
from orchestrator.policy.batches.enqueued_tokens import EnqueuedTokens
from orchestrator.policy.batches.forming import BatchLimits

__all__ = ["LearnedOfBatches", "SharedParts", "batch_lane"]


class LearnedOfBatches:
    """How long batches take, and how many tokens may be enqueued; kept for the next run at this provider."""

    def __init__(self, config: Config) -> None:
        self.durations = BatchDurations()
        self.tokens = EnqueuedTokens(config.lanes.batch.enqueued_tokens)
        self.snapshot = Snapshot(f"batches:{address(config)}", self._dump, self._load)

    def _dump(self) -> bytes:
        return orjson.dumps({"durations": self.durations.dump(), "tokens": self.tokens.dump()})

    def _load(self, kept: bytes) -> None:
        try:
            learned = orjson.loads(kept)
            self.durations.load(learned["durations"])
            self.tokens.load(learned["tokens"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a cold start


@fast_dataclass
class SharedParts:
    """The parts of a run that its lane of batches shares with its other tasks."""

    queue: SendQueue
    funds: Funds
    settle: Settle
    other_runs: OtherRuns
    router: Router


def batch_lane(config: Config, run: RunContext, learned: LearnedOfBatches, shared: SharedParts) -> BatchLane:
    """The task that carries requests out in batches; idle in a run that has none."""
    settings, client = config.lanes.batch, run.endpoints[0].executors.batches
    send = SendBatch(run, client, funds=shared.funds, grace_s=settings.grace)
    collect = CollectBatch(
        run,
        client,
        shared.settle,
        route=shared.router.route,
        tokens=learned.tokens,
        durations=learned.durations,
        times=CollectTimes(grace_s=settings.grace, give_up_after_s=settings.give_up_after),
    )
    return BatchLane(
        run,
        shared.queue,
        BatchSteps(send, collect, shared.other_runs),
        funds=shared.funds,
        router=shared.router,
        limits=BatchLimits(
            max_lines=settings.max_lines,
            max_bytes=settings.max_bytes,
            enqueued_tokens=settings.enqueued_tokens,
        ),
        tokens=learned.tokens,
    )
