"""What a run shows of itself: live counts for displays, and events for logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.core.clock import Clock
from orchestrator.core.events import Observer, Progress, Settled, Warned
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Charge
from orchestrator.core.states import SETTLED, Event, State, move
from orchestrator.engine.items import OpenResponse
from orchestrator.stores.reads import Dependent

__all__ = ["Observation"]


@fast_dataclass(kw_only=False)
class Observation:
    """The live counts of a run, and the observer that receives its events."""

    progress: Progress
    observe: Observer
    clock: Clock

    def moved(self, from_state: State, event: Event) -> State:
        """Count a move that the store made; returns the state that follows."""
        to_state = move(from_state, event)
        self.count(from_state, to_state)
        return to_state

    def count(self, from_state: State, to_state: State) -> None:
        """Show a move in the live counts."""
        requests = self.progress.requests
        requests[from_state] -= 1
        requests[to_state] += 1

    def warn(self, code: str, message: str) -> None:
        """Report something that the user should know and that stops nothing."""
        self.observe(Warned(code=code, message=message))

    def settled(
        self,
        open_: OpenResponse,
        state: State,
        code: str | None,
        *,
        status: str | None = None,
        charge: Charge | None = None,
    ) -> None:
        """Report a request that ended with an attempt."""
        self.progress.settled_here += 1
        self.observe(
            Settled(
                key=open_.key,
                state=state,
                code=code,
                response_id=open_.response_id or None,
                status=open_.status if status is None else status,
                attempts=open_.attempts,
                usage=charge.usage if charge is not None else None,
                cost_pusd=charge.cost_pusd if charge is not None else None,
                elapsed_s=self.clock.now() - open_.sent_at,
            )
        )

    def settled_unsent(self, key: str, state: State, code: str | None = None) -> None:
        """Report a request that ended without an attempt of its own."""
        self.progress.settled_here += 1
        self.observe(
            Settled(
                key=key,
                state=state,
                code=code,
                response_id=None,
                status=None,
                attempts=0,
                usage=None,
                cost_pusd=None,
                elapsed_s=0.0,
            )
        )

    def joined(self, moved: Sequence[Dependent]) -> None:
        """Report a pending request that joined another one, and those that moved with it."""
        first, *others = moved
        self.count(State.PENDING, first.to)
        if first.to in SETTLED:
            self.settled_unsent(first.key, first.to, first.code)
        self.dependents(others)

    def dependents(self, moved: Iterable[Dependent] | None) -> bool:
        """Report requests that moved together with a settled one; True if one of them may be sent now."""
        unblocked = False
        for dependent in moved or ():
            self.count(State.BLOCKED, dependent.to)
            if dependent.to in SETTLED:
                self.settled_unsent(dependent.key, dependent.to, dependent.code)
            else:
                unblocked = True
        return unblocked
