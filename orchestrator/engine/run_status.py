"""What the tasks of a run share: how much is in flight, why nothing more is sent, and the signals that wake them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.core.clock import Signal
from orchestrator.core.errors import OrchestratorError
from orchestrator.engine.items import AwaitsEvent, Halted
from orchestrator.engine.tasks.poll_queue import PollQueues
from orchestrator.engine.webhook_hints import WebhookHints

__all__ = ["RunStatus"]


@dataclass(slots=True, kw_only=True)
class RunStatus:
    """One run's live counts, its reasons to stop, and its signals.

    A run stops for one of three reasons: it is *halted* (key, quota, budget, deadline, a bad row), the user
    *interrupted* this process, or the user is *cancelling* the run.
    """

    poll_queue: PollQueues = field(default_factory=PollQueues)
    # What events of the provider announce; None without webhooks.
    hints: WebhookHints | None = None
    # Calls on the wire, and responses whose tools are running.
    sending: int = 0
    polling: int = 0
    running_tools: int = 0
    # Batches at the provider whose lines are not collected; one more until the stored ones are known.
    batches: int = 0
    # Stages whose open batches are cancelled: what these have not answered is sent in another lane.
    recalled_stages: set[str] = field(default_factory=set)
    # Requests in doubt that wait for the operator's decision.
    held: int = 0
    # Requests that wait for a request of another run, and the runs that hold one in doubt.
    waiting: int = 0
    held_by: tuple[str, ...] = ()
    # Stages that may still get rows; until all are sealed, an empty queue does not mean that the run is over.
    unsealed_stages: set[str] = field(default_factory=set)
    # The stages whose requests are sent, if they are not all, and the one that was named for it.
    asked_stages: frozenset[str] | None = None
    until: str | None = None
    # Nothing is sent before every row is planned: a comparison of the whole input may forbid it.
    plans_first: bool = False
    # Nothing is sent before its lane is chosen.
    lane_undecided: bool = False
    queue_empty: bool = False
    # How often rows were added to each stage, so that one without new rows is not asked for in vain.
    additions: Counter[str] = field(default_factory=Counter)
    halted: Halted | None = None
    # An error to raise when the run has come to its end.
    error: OrchestratorError | None = None
    interrupted: bool = False
    cancelling: bool = False
    send_signal: Signal = field(default_factory=Signal)
    poll_signal: Signal = field(default_factory=Signal)
    # Something was settled, of which rows of later stages may be made.
    feed_signal: Signal = field(default_factory=Signal)
    # Whether every settled row was passed on when the feeder of later stages last looked.
    feeder_waits: bool = True
    # Requests wait for a batch, or something has changed for one.
    batch_signal: Signal = field(default_factory=Signal)
    end_signal: Signal = field(default_factory=Signal)

    @property
    def open(self) -> int:
        """How many responses are open at the provider."""
        return len(self.poll_queue) + self.polling

    @property
    def in_flight(self) -> int:
        """How many requests are being sent, are open at the provider, or have tools running."""
        return self.sending + self.polling + self.running_tools + len(self.poll_queue) + self.batches

    @property
    def may_send(self) -> bool:
        """Whether new requests may be sent."""
        return self.halted is None and not self.interrupted and not self.cancelling

    @property
    def may_poll(self) -> bool:
        """False if open responses are left to a later process; calls on the wire are still waited for briefly."""
        return not self.interrupted and (self.halted is None or self.halted.collect)

    @property
    def planned(self) -> bool:
        """Every row of every stage is in the store."""
        return not self.unsealed_stages

    @property
    def waits_for_plan(self) -> bool:
        """Nothing may be sent yet, because rows are still being planned or their lane is not chosen."""
        return self.lane_undecided or (self.plans_first and not self.planned)

    @property
    def only_polls(self) -> bool:
        """Nothing is left to send: the run only waits for open responses."""
        return self.queue_empty and not self.unsealed_stages and not self.sending

    @property
    def done(self) -> bool:
        """Nothing is left that this process could still do for the run."""
        if self.in_flight:
            return False
        if self.halted is not None or self.cancelling:
            return True
        if self.hints is not None and self.hints.awaiting:
            return False
        return self.queue_empty and not self.unsealed_stages and not self.waiting

    def asks(self, stage: str) -> bool:
        """Whether requests of a stage are sent; rows may come to the others, and wait there."""
        return self.asked_stages is None or stage in self.asked_stages

    def added(self, stages: Iterable[str]) -> None:
        """Rows that can be sent were added to stages."""
        self.additions.update(stages)
        self.queue_empty = False
        self.send_signal.set()

    @property
    def may_get_rows(self) -> bool:
        """Whether rows of later stages may still be made of what is settled."""
        return not self.feeder_waits or self.feed_signal.is_set

    def seal(self, stage: str) -> None:
        """No further row will come to a stage."""
        self.unsealed_stages.discard(stage)
        self.wake()

    def await_event(self, awaits: AwaitsEvent) -> None:
        """A request in doubt waits for the event that names its response."""
        if self.hints is None:
            raise RuntimeError("a request waits for an event, and no one listens")
        self.hints.await_event(awaits)

    def doubt_ended(self, attempt_id: int) -> None:
        """The response of a request in doubt was found: it waits for nothing more."""
        if self.hints is None or self.hints.awaiting.pop(attempt_id, None) is None:
            self.held -= 1

    def halt(self, halted: Halted) -> None:
        """Send nothing more; the first reason given is the one that is reported."""
        if self.halted is None:
            self.halted = halted
        self.wake()

    def notify_if_done(self) -> None:
        """Wake the loop if this may be the end of the run; waking it for every row would cost each of them."""
        if self.halted is not None or self.interrupted or self.done:
            self.end_signal.set()

    def wake(self) -> None:
        """Wake every task: something has changed for all of them."""
        self.send_signal.set()
        self.poll_signal.set()
        self.feed_signal.set()
        self.batch_signal.set()
        self.end_signal.set()
