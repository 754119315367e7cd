"""Finds responses whose create calls brought no reply, by the events that name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from orchestrator.core.states import State
from orchestrator.engine.allowances import Allowances
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, AwaitsEvent
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps.attach import Attach
from orchestrator.engine.steps.in_doubt import give_up_waiting
from orchestrator.engine.steps.settle import Settle
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.policy.errors.verdicts import Cancelled

__all__ = ["LostReplies"]

# The reply that names a response may come after its event.
_REPLY_S = 2.0
_PERIOD_S = 1.0
# So many responses are asked for at once: a killed process can have lost as many replies as were on the wire.
_AT_ONCE = 16
# A request is not given up before the events that came in time are decided, at the latest after this.
_DECIDE_S = 60.0


class LostReplies:
    """Asks for responses that no request has, if one could be ours, and ends the wait of requests in doubt."""

    def __init__(
        self,
        run: RunContext,
        hints: WebhookHints,
        attach: Attach,
        *,
        allowances: Allowances,
        funds: Funds,
        settle: Settle,
        route: Callable[[After], None],
    ) -> None:
        self._run = run
        self._hints = hints
        self._attach = attach
        self._polls = allowances.polls
        self._funds = funds
        self._settle = settle
        self._route = route

    async def run(self) -> None:
        """Work until cancelled."""
        clock = self._run.clock
        while True:
            await self._decide_all(self._hints.unknown(until=clock.now() - _REPLY_S))
            for awaits in self._overdue():
                await self._end_wait(awaits)
            await clock.sleep_until(clock.now() + _PERIOD_S)
            if not self._hints.is_busy:
                await clock.wait(self._hints.signal, None)

    async def _decide_all(self, response_ids: Sequence[str]) -> None:
        places = anyio.CapacityLimiter(_AT_ONCE)

        async def decide(response_id: str) -> None:
            async with places:
                await self._decide(response_id)

        async with anyio.create_task_group() as tasks:
            for response_id in response_ids:
                tasks.start_soon(decide, response_id)

    async def _decide(self, response_id: str) -> None:
        """Ask whose response it is, if a request of this run lacks one; else it is another program's."""
        status, clock = self._run.status, self._run.clock
        if not status.may_poll:
            return
        if not self._hints.has_doubts and not status.sending:
            self._hints.forget(response_id)
            return
        while not self._polls.take(now := clock.now(), 0):
            await clock.sleep_until(self._polls.ready_at(now, 0))
        after = await self._attach.attach(response_id)
        if after is not None:
            self._hints.forget(response_id)
            self._route(after)

    def _overdue(self) -> list[AwaitsEvent]:
        status, now = self._run.status, self._run.clock.now()
        if not status.may_send and not status.cancelling:
            return []
        undecided_s = _DECIDE_S if self._hints.unknown(until=now) else 0.0
        return [
            each for each in self._hints.awaiting.values() if status.cancelling or each.until + undecided_s <= now
        ]

    async def _end_wait(self, awaits: AwaitsEvent) -> None:
        if self._run.status.cancelling:
            after = await self._settle.end(awaits.open, State.IN_DOUBT, Cancelled("cancelled at your request"))
        else:
            after = await give_up_waiting(self._run, self._funds, awaits)
        # Only now: without anything that waits, the run could end before this is counted.
        del self._hints.awaiting[awaits.open.attempt_id]
        self._route(after)
        self._run.status.notify_if_done()
