"""Follow the requests of other runs that ask the same: take the answer, take over the response, or wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.model import Charge
from orchestrator.core.states import SETTLED, Event, State
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, Finished, Prepared, Queued, Returned
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps.recover import Recover
from orchestrator.policy.errors.judgement import may_resend
from orchestrator.policy.reuse import Reuse, reuse
from orchestrator.stores.reads import Dependent, Duplicate, OtherRequest, Wait
from orchestrator.stores.writes import Adoption, Ending

__all__ = ["OtherRuns"]


class OtherRuns:
    """What this run has to do with others of the same database."""

    def __init__(self, run: RunContext, funds: Funds, recover: Recover, *, route: Callable[[After], None]) -> None:
        self._run = run
        self._is_at_work = funds.is_at_work
        self._recover = recover
        self._route = route
        # The runs whose responses were taken over, and those that are waited for: each is reported once.
        self._reported: set[tuple[Reuse, str]] = set()

    async def follow(self, prepared: Prepared, others: Sequence[OtherRequest]) -> After:
        """Do not send a request that other runs ask too; ``Returned`` if it must be sent or claimed again."""
        decided = [(self._decide(other), other) for other in others]
        how, other = min(decided, key=lambda each: each[0].rank)
        self._report(how, other.run)
        match how:
            case Reuse.TAKE | Reuse.WAIT | Reuse.HOLD:
                return await self._join(prepared, other)
            case Reuse.ADOPT:
                return await self._adopt(prepared, other)
            case Reuse.RESOLVE:
                await self._resolve(prepared, other)
                return Returned(prepared)
            case Reuse.SEND:
                return Returned(prepared)

    async def check(self) -> None:
        """Move the requests that wait for other runs and need not wait longer."""
        run, waiting, held = self._run, 0, set[str]()
        taken_back: set[int] = set()
        for wait in await run.reader.waits(run.record.id):
            how = self._decide(wait)
            if how is Reuse.HOLD:
                held.add(wait.run)
            elif how is Reuse.WAIT:
                waiting += 1
            else:
                is_over = not self._is_at_work(wait.run_id)
                moved = await run.store.end_wait(wait.request_id, run.clock.now(), is_over=is_over)
                if self._note_moved(moved):
                    taken_back.add(wait.request_id)
        run.status.waiting, run.status.held_by = waiting, tuple(sorted(held))
        if taken_back:
            for attempt in await run.reader.open_attempts(run.record.id):
                if attempt.request_id in taken_back:
                    self._route(await self._recover.recover(attempt))
        run.status.notify_if_done()

    def _decide(self, other: OtherRequest | Wait) -> Reuse:
        at_work = other.state not in SETTLED and self._is_at_work(other.run_id)
        return reuse(other.state, at_work=at_work, in_batch=other.in_batch)

    def _note_moved(self, moved: Sequence[Dependent] | None) -> bool:
        """Show what moved; True if it was the waiting request's own response that came back."""
        if not moved:
            return False
        run, now = self._run, self._run.clock.now()
        run.observation.dependents(moved)
        if any(each.to is State.PENDING for each in moved):
            self._route(Queued(now))
        return moved[0].to is State.SUBMITTED

    async def _join(self, prepared: Prepared, other: OtherRequest) -> After:
        run, request, fingerprint = self._run, prepared.request, prepared.fingerprint
        if fingerprint is None:
            raise RuntimeError("a request without a fingerprint is like no other")
        moved = await run.store.join(
            request.id, Duplicate(other.request_id, here=False), fingerprint, run.clock.now()
        )
        if moved is None:  # it was cancelled
            return Finished()
        if not moved:  # the other one ended without an answer meanwhile
            return Returned(prepared)
        run.observation.joined(moved)
        run.status.waiting += moved[0].to not in SETTLED
        return Finished()

    async def _adopt(self, prepared: Prepared, other: OtherRequest) -> After:
        run, request, fingerprint = self._run, prepared.request, prepared.fingerprint
        if fingerprint is None:
            raise RuntimeError("a request without a fingerprint is like no other")
        attempt = await run.store.adopt(
            Adoption(
                request_id=request.id,
                run_id=run.record.id,
                stage=request.stage,
                number=prepared.number,
                fingerprint=fingerprint,
                adopted_id=other.request_id,
                from_state=other.state,
                at=run.clock.now(),
            )
        )
        if attempt is None:
            return Returned(prepared)
        run.observation.count(State.PENDING, attempt.state)
        return await self._recover.recover(attempt)

    async def _resolve(self, prepared: Prepared, other: OtherRequest) -> None:
        """Its process ended while it was being sent: the rule of its own run's resume."""
        run = self._run
        below = run.stages[prepared.request.stage].settings.resend_below_pusd
        resend = may_resend(other.worst_case_pusd, below_pusd=below)
        unknown = Charge(usage=None, cost_pusd=None, upper_bound_pusd=other.worst_case_pusd, price=None)
        await run.store.end(
            Ending(
                request_id=other.request_id,
                attempt_id=other.attempt_id,
                from_state=State.SUBMITTING,
                event=Event.RETRY if resend else Event.LOSE,
                at=run.clock.now(),
                code="submit_in_doubt",
                message="the process ended while the request was being sent",
                charge=unknown if resend else None,
                count_attempt=False,
                possible_duplicate=resend,
            )
        )

    def _report(self, how: Reuse, run: str) -> None:
        texts = {
            Reuse.ADOPT: f"run {run!r} left responses open that this run asks for too: they are taken over",
            Reuse.WAIT: f"a process works on run {run!r}, which asks the same: its answers are waited for",
        }
        if how in texts and (how, run) not in self._reported:
            self._reported.add((how, run))
            self._run.observation.warn("reuse", texts[how])
