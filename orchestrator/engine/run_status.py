"""What the engine's tasks share: how much is open, whether something stops the run, and who must be woken."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.clock import Signal
from orchestrator.core.errors import OrchestratorError
from orchestrator.engine.items import Stopped

__all__ = ["RunStatus"]


@dataclass(slots=True)
class RunStatus:
    """One run's live counts and signals; every task of the run reads it, each field has one writer."""

    # Creates on the wire (sender), looks on the wire and responses open at the provider (poller), those whose tools
    # are being run (actor), requests held in doubt (all).
    sending: int = 0
    looking: int = 0
    open: int = 0
    acting: int = 0
    held: int = 0
    # The provider has answered something in this process, be it a refusal: it is there.
    heard: bool = False
    # Since when the user knows that the provider does not answer (all).
    outage_since: float | None = None
    planned: bool = False
    queue_empty: bool = False
    stopped: Stopped | None = None
    # An error of the user's to be raised when the run has come to its stop.
    error: OrchestratorError | None = None
    # Set by the user's interrupt: nothing new, and no waiting for what is open.
    leaving: bool = False
    cancelling: bool = False
    sender: Signal = field(default_factory=Signal)
    poller: Signal = field(default_factory=Signal)
    changed: Signal = field(default_factory=Signal)

    @property
    def in_flight(self) -> int:
        return self.sending + self.open + self.acting

    @property
    def may_send(self) -> bool:
        return self.stopped is None and not self.leaving and not self.cancelling

    @property
    def breaking_off(self) -> bool:
        """What is on the wire is the last: open responses are left to a later process."""
        return self.leaving or (self.stopped is not None and not self.stopped.collect)

    @property
    def done(self) -> bool:
        """Nothing is left that this process could still bring forward."""
        if self.in_flight:
            return False
        return self.stopped is not None or self.cancelling or (self.planned and self.queue_empty)

    def stop(self, stopped: Stopped) -> None:
        """Send nothing more; the first reason given is the one that is told."""
        if self.stopped is None:
            self.stopped = stopped
        self.wake()

    def notify_if_done(self) -> None:
        """Wake who waits for the end, where this may be it; to wake it at every row would cost each of them."""
        if self.stopped is not None or self.leaving or self.done:
            self.changed.set()

    def wake(self) -> None:
        self.sender.set()
        self.poller.set()
        self.changed.set()
