"""Send one request: intent on disk, POST, response id on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import orjson

from orchestrator.core.model import Seen
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.states import Event, State
from orchestrator.engine.closed_endpoints import close, close_model, reopen
from orchestrator.engine.funds import Funds
from orchestrator.engine.identity import ReplyIdentity
from orchestrator.engine.items import (
    After,
    AskedElsewhere,
    Finished,
    Halted,
    NewConversation,
    OpenResponse,
    Prepared,
    Queued,
    Returned,
    Waiting,
)
from orchestrator.engine.lane_switch import LaneSwitch
from orchestrator.engine.preparation import Unsendable
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.steps.in_doubt import resend_or_hold
from orchestrator.engine.steps.poll import first_poll
from orchestrator.engine.steps.refuse import refuse
from orchestrator.engine.steps.settle import Settle
from orchestrator.engine.uploads import FileChanged, Uploads
from orchestrator.policy.endpoint_choice import refuses_model
from orchestrator.policy.errors.lane_refusals import refuses_lane
from orchestrator.policy.errors.verdicts import Fail, Found, Full, Halt, InDoubt, Later, Outage, RateLimited, Retry
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.headers import parse_rate_limits
from orchestrator.stores.reads import Duplicate, Spending
from orchestrator.stores.writes import Acceptance, Claim, Release

__all__ = ["Submit"]


class Submit:
    """Sends requests that the budget and the rate limits have admitted.

    ``uploads`` uploads the files that requests name, to each endpoint.
    """

    def __init__(
        self,
        run: RunContext,
        uploads: Sequence[Uploads],
        *,
        funds: Funds,
        settle: Settle,
        lanes: LaneSwitch,
    ) -> None:
        self._run = run
        self._uploads = uploads
        self._funds = funds
        self._settle = settle
        self._lanes = lanes
        self._identity = ReplyIdentity(run)

    async def submit(self, prepared: Prepared) -> After | AskedElsewhere:
        """Send one request: intent on disk, POST, response id on disk."""
        run, request = self._run, prepared.request
        endpoint = run.endpoints[prepared.endpoint]
        outages = endpoint.outages
        admitted_at = run.clock.now()
        body = prepared.body
        if prepared.new_conversation is not None or prepared.uploads:
            complete = await self._complete(prepared, admitted_at)
            if not isinstance(complete, bytes):
                return complete
            body = complete
        key = f"{run.record.uid}-{request.id}-{request.epoch}"
        sent_at = run.clock.now()
        attempt_id = await run.store.claim(
            Claim(
                request_id=request.id,
                run_id=run.record.id,
                stage=request.stage,
                number=prepared.number,
                idempotency_key=key,
                at=sent_at,
                model=prepared.model,
                service_tier=prepared.service_tier,
                window=prepared.window,
                lane=prepared.lane,
                worst_case_pusd=prepared.worst_case_pusd,
                caps=self._funds.caps,
                metadata=prepared.metadata,
                fingerprint=prepared.fingerprint,
                asks_once=self._funds.has_siblings and run.stages[request.stage].settings.ask_once,
                others_since=prepared.others_since,
                endpoint=endpoint.name,
            )
        )
        if isinstance(attempt_id, Spending):  # other runs have spent what was left
            self._give_back(prepared, admitted_at)
            self._funds.refresh(attempt_id)
            return Returned(prepared)
        if isinstance(attempt_id, list):  # another run has just sent the same
            self._give_back(prepared, admitted_at)
            return AskedElsewhere(attempt_id)
        if isinstance(attempt_id, Duplicate):  # another process of this run has just sent the same
            self._give_back(prepared, admitted_at)
            return await self._join(prepared, attempt_id)
        if attempt_id is None:  # it was cancelled before it could be claimed
            self._give_back(prepared, admitted_at)
            return Finished()
        run.observation.moved(State.PENDING, Event.CLAIM)
        open_ = _open_response(prepared, run.stages[request.stage], attempt_id, sent_at)
        executor = endpoint.executors.of(prepared.lane)
        try:
            answer = await executor.submit(body, idempotency_key=key, client_request_id=f"{key}-{prepared.number}")
        except asyncio.CancelledError:
            if executor.capabilities.held:
                await self._return_held(prepared, open_)
            raise
        outages.reached |= not isinstance(answer, NeverSent)
        if isinstance(answer, Seen):
            outages.record_success(outages.creates, sent_at)
            if endpoint.closed is not None or endpoint.closed_models:
                reopen(run, endpoint, prepared.model, sent_at)
            now, pool = run.clock.now(), endpoint.allowances.pools.pool(prepared.model)
            pool.learn(now, sent_at, parse_rate_limits(answer.headers) if pool.wants_headers(now) else None)
            flaw = self._identity.flaw_of_create(open_, answer.response)
            if flaw is None:
                return await self._accepted(open_, answer.response.id, answer.response.status, answer)
            return await self._not_ours(open_, flaw)
        return await self._not_accepted(prepared, open_, answer)

    # ── before the create call ────────────────────────────────────────────────────────────────────────────

    async def _join(self, prepared: Prepared, earlier: Duplicate) -> Finished:
        run, fingerprint = self._run, prepared.fingerprint
        if fingerprint is not None:
            moved = await run.store.join(prepared.request.id, earlier, fingerprint, run.clock.now())
            if moved:
                run.observation.joined(moved)
        return Finished()

    async def _complete(self, prepared: Prepared, admitted_at: float) -> bytes | After:
        """The body once all that it names is at the provider; or the outcome if that cannot be done now."""
        body: bytes | After = prepared.body
        if prepared.new_conversation is not None:
            body = await self._with_conversation(prepared, prepared.new_conversation)
        if prepared.uploads and isinstance(body, bytes):
            body = await self._with_uploads(prepared, body)
        if not isinstance(body, bytes):
            self._give_back(prepared, admitted_at)
        return body

    async def _with_conversation(self, prepared: Prepared, new: NewConversation) -> bytes | After:
        """The body with a new conversation for its chain; or the outcome without one.

        A conversation whose reply was lost is abandoned at the provider: it is empty and costs nothing.
        """
        if new.body is not None:
            return new.body
        run, sent_at = self._run, self._run.clock.now()
        endpoint = run.endpoints[prepared.endpoint]
        executor = endpoint.executors.of(prepared.lane)
        made = await executor.new_conversation(run.record.uid, new.chain)
        if isinstance(made, str):
            await run.store.keep_conversation(run.record.id, new.chain, made, endpoint.name)
            new.body, new.endpoint = new.encode(made), prepared.endpoint
            return new.body
        return await self._not_complete(prepared, sent_at, made)

    async def _with_uploads(self, prepared: Prepared, body: bytes) -> bytes | After:
        """The body with the ids of its files; or the outcome without one of them."""
        for upload in prepared.uploads:
            sent_at = self._run.clock.now()
            try:
                file_id = await self._uploads[prepared.endpoint].file_id(upload)
            except FileChanged as changed:
                await refuse(self._run, prepared.request, Unsendable("row_invalid", str(changed)))
                return Finished()
            if not isinstance(file_id, str):
                return await self._not_complete(prepared, sent_at, file_id)
            body = body.replace(orjson.dumps(upload), orjson.dumps(file_id))
        return body

    async def _not_complete(self, prepared: Prepared, sent_at: float, problem: Problem) -> After:
        """The provider did not create what a request needs; the request itself was not sent."""
        run, outages = self._run, self._run.endpoints[prepared.endpoint].outages
        verdict = run.stages[prepared.request.stage].first_creates[prepared.endpoint].judge(problem)
        match verdict:
            case Halt():
                halted = close(run, prepared.endpoint, Halted.by(verdict, collect=_can_still_poll(problem)))
                return halted or await self._put_off(prepared, run.clock.now())
            case Fail(code, message):
                await refuse(run, prepared.request, Unsendable(code, message))
                return Finished()
            case RateLimited(after_s):
                self._rate_limited(prepared, sent_at, verdict, problem)
                if not after_s:
                    return Returned(prepared)
                return await self._put_off(prepared, run.clock.now() + after_s)
        halted = outages.unreachable(problem)
        if halted is not None and (halted := close(run, prepared.endpoint, halted)) is not None:
            return halted
        outages.record_failure(outages.creates, sent_at, "provider", again=False)
        return await self._put_off(prepared, run.clock.now() + retry_wait(1, run.rng))

    async def _put_off(self, prepared: Prepared, again_at: float) -> After:
        """Let a request wait that was not claimed."""
        if prepared.request.not_before:
            return Queued(again_at)
        # On disk it was never put off, so no query for delayed requests would find it: it waits here.
        await self._run.clock.sleep_until(again_at)
        return Returned(prepared)

    # ── after the create call ─────────────────────────────────────────────────────────────────────────────

    async def _accepted(self, open_: OpenResponse, response_id: str, status: str, seen: Seen | None) -> After:
        """Write the response id down before anything else is done with it."""
        run = self._run
        open_.stage.first_creates[open_.endpoint].accepted()
        now = run.clock.now()
        accepted = await run.store.accept(
            Acceptance(
                request_id=open_.request_id,
                attempt_id=open_.attempt_id,
                response_id=response_id,
                status=status,
                at=now,
            )
        )
        if not accepted:
            return await self._not_ours(
                open_, "the reply to the create call has the id of another request's response"
            )
        run.observation.moved(State.SUBMITTING, Event.ACCEPT)
        open_.response_id, open_.status = response_id, status
        open_.accepted_at = now
        waiting, first_polls = first_poll(open_, seen), open_.stage.first_polls[open_.endpoint]
        if seen is not None and seen.response.ended:
            first_polls.answered()
            await self._lanes.answered(open_, seen.response)
            return await self._settle.settle(open_, seen.response)
        self._lanes.answered_later()
        asked_to_wait = seen is not None and seen.poll_after_s is not None
        if not run.status.queue_empty and not asked_to_wait and first_polls.takes_early_poll():
            return Waiting(open_, now, forced=True)
        return waiting

    async def _return_held(self, prepared: Prepared, open_: OpenResponse) -> None:
        """The process stops while a call is held, which cancels the response: where that costs nothing, nothing is
        in doubt, and the request is pending again.
        """
        if prepared.worst_case_pusd == 0:
            with anyio.CancelScope(shield=True):
                await self._release(prepared, open_, NeverSent(reason="the process stopped"), self._run.clock.now())

    async def _not_ours(self, open_: OpenResponse, flaw: str) -> After:
        """The reply is another request's; a response of this one may exist, and its id is not known."""
        problem = ReplyLost(reason=flaw, status=200, unreadable=True)
        return await self._settle.end(open_, State.SUBMITTING, Fail("unreadable_reply", flaw), problem=problem)

    async def _not_accepted(self, prepared: Prepared, open_: OpenResponse, problem: Problem) -> After:
        """Either no response was created, or that is in doubt."""
        run, now = self._run, self._run.clock.now()
        endpoint = run.endpoints[open_.endpoint]
        outages = endpoint.outages
        if refuses_lane(prepared.lane, problem):
            await self._lanes.refused(open_.stage, prepared)
            await self._release(prepared, open_, problem, now)
            return Returned(prepared)
        if refuses_model(problem) and self._others_have(prepared):
            await self._release(prepared, open_, problem, now)
            return Returned(prepared)
        verdict = open_.stage.first_creates[open_.endpoint].judge(problem)
        match verdict:
            case Found(response_id):
                return await self._accepted(open_, response_id, "", None)
            case InDoubt(code, message):
                outages.record_failure(outages.creates, open_.sent_at, code, again=open_.attempts > 1)
                counted = not outages.creates.excuses(now)
                return await resend_or_hold(run, self._funds, open_, code, message, counted=counted)
            case Halt():
                return await self._halt(prepared, open_, problem, verdict)
            case RateLimited(after_s):
                self._rate_limited(prepared, open_.sent_at, verdict, problem)
                await self._release(prepared, open_, problem, now + (after_s or 0.0), rate_limited=True)
                # What the provider asks one request to wait, that request waits, however fast the others go.
                return Queued(now + after_s) if after_s else Returned(prepared)
            case Full(after_s):
                endpoint.allowances.places.full(now, run.in_flight_at(open_.endpoint))
                await self._release(prepared, open_, problem, now + (after_s or 0.0))
                return Queued(now + after_s) if after_s else Returned(prepared)
            case Later(after_s):
                await self._release(prepared, open_, problem, now + after_s)
                return Queued(now + after_s)
            case Outage(code, after_s, _):
                halted = outages.unreachable(problem)
                if halted is not None and (halted := close(run, open_.endpoint, halted)) is not None:
                    await self._release(prepared, open_, problem, now)
                    return halted
                outages.record_failure(outages.creates, open_.sent_at, code, again=False)
                again_at = now + retry_wait(1, run.rng, at_least_s=after_s)
                await self._release(prepared, open_, problem, again_at)
                return Queued(again_at)
            case Retry() | Fail():
                return await self._settle.end(open_, State.SUBMITTING, verdict, problem=problem)

    async def _halt(self, prepared: Prepared, open_: OpenResponse, problem: Problem, verdict: Halt) -> After:
        run = self._run
        halted = close(run, open_.endpoint, Halted.by(verdict, collect=_can_still_poll(problem)))
        if halted is not None:
            # Before anything is written: what is sent meanwhile would end the same way.
            run.status.halt(halted)
        if isinstance(problem, ReplyLost) and problem.unreadable:
            after = await self._settle.end(
                open_, State.SUBMITTING, Fail(verdict.code, verdict.message), problem=problem
            )
        elif verdict.maybe_sent:
            after = await resend_or_hold(run, self._funds, open_, "submit_in_doubt", verdict.message)
        else:
            await self._release(prepared, open_, problem, run.clock.now())
            after = Queued(run.clock.now())
        return halted or after

    def _others_have(self, prepared: Prepared) -> bool:
        """Whether other endpoints may answer a request although this one does not have its model."""
        run = self._run
        if len(run.endpoints) == 1 or prepared.pin is not None:
            return False
        unknown = Halted("model_not_found", f"it does not have {prepared.model}", collect=True)
        return close_model(run, prepared.endpoint, prepared.model, unknown)

    async def _release(
        self,
        prepared: Prepared,
        open_: OpenResponse,
        problem: Problem,
        not_before: float,
        *,
        rate_limited: bool = False,
    ) -> None:
        """Undo a claim: nothing was created, and the attempt is not counted."""
        await self._run.store.release(
            Release(
                request_id=open_.request_id,
                attempt_id=open_.attempt_id,
                not_before=not_before,
                rate_limited=rate_limited,
            )
        )
        if isinstance(problem, NeverSent):
            self._give_back(prepared, open_.sent_at)
        else:
            # The provider counts against its limits what it refuses, too.
            self._funds.release(prepared.worst_case_pusd, prepared.request.stage)
        self._run.observation.moved(State.SUBMITTING, Event.RELEASE)

    def _give_back(self, prepared: Prepared, admitted_at: float) -> None:
        """Nothing was sent: return what was taken from the budget and the rate limits."""
        self._funds.release(prepared.worst_case_pusd, prepared.request.stage)
        pool = self._run.endpoints[prepared.endpoint].allowances.pools.pool(prepared.model)
        pool.refund(self._run.clock.now(), prepared.tokens, taken_at=admitted_at)

    def _rate_limited(self, prepared: Prepared, sent_at: float, verdict: RateLimited, problem: Problem) -> None:
        self._run.observation.progress.rate_limited += 1
        self._run.endpoints[prepared.endpoint].allowances.pools.pool(prepared.model).rate_limited(
            self._run.clock.now(),
            sent_at,
            retry_after_s=verdict.after_s,
            limits=problem.rate_limits if isinstance(problem, Refused) else None,
            slow_down=verdict.slow_down,
        )


def _can_still_poll(problem: Problem) -> bool:
    """Whether open responses can still be fetched after this: not with a key that is refused."""
    return isinstance(problem, Refused) and problem.status not in (401, 403)


def _open_response(prepared: Prepared, stage: Stage, attempt_id: int, sent_at: float) -> OpenResponse:
    """The response that a claimed request asks for; its id and status are not known yet."""
    request = prepared.request
    return OpenResponse(
        request_id=request.id,
        attempt_id=attempt_id,
        key=request.key,
        stage=stage,
        attempts=request.attempts + 1,
        response_id="",
        status="",
        sent_at=sent_at,
        accepted_at=sent_at,
        model=prepared.model,
        service_tier=prepared.service_tier,
        window=prepared.window,
        worst_case_pusd=prepared.worst_case_pusd,
        max_output_tokens=prepared.max_output_tokens,
        lane=prepared.lane,
        endpoint=prepared.endpoint,
        number=prepared.number,
        turn=request.turn,
        repairs=request.repairs,
    )
