"""Send one request: intent on disk, POST, response id on disk."""

from __future__ import annotations

import orjson

from orchestrator.core.model import Seen
from orchestrator.core.problems import NeverSent, Problem, Refused
from orchestrator.core.states import State
from orchestrator.engine.items import (
    After,
    Finished,
    NewConversation,
    OpenResponse,
    Prepared,
    Queued,
    Returned,
    Stopped,
)
from orchestrator.engine.preparation import Unsendable
from orchestrator.engine.steps.context import Context, record_failure, record_success, refresh_spending, unreachable
from orchestrator.engine.steps.in_doubt import doubt
from orchestrator.engine.steps.poll import first_poll
from orchestrator.engine.steps.refuse import refuse
from orchestrator.engine.steps.settle import end, settle
from orchestrator.engine.uploads import FileChanged
from orchestrator.policy.errors.verdicts import Fail, Found, Halt, InDoubt, Later, Outage, RateLimited, Retry
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.headers import parse_rate_limits
from orchestrator.stores.reads import Spending
from orchestrator.stores.writes import Acceptance, Claim, Release

__all__ = ["submit"]


async def submit(context: Context, prepared: Prepared) -> After:
    """Send one request: intent on disk, POST, id on disk."""
    request = prepared.request
    admitted_at = context.clock.now()
    body = await _body(context, prepared, admitted_at)
    if not isinstance(body, bytes):
        return body
    key = f"{context.run.uid}-{request.id}-{request.epoch}"
    sent_at = context.clock.now()
    attempt_id = await context.store.claim(
        Claim(
            request_id=request.id,
            run_id=context.run.id,
            stage=request.stage,
            number=prepared.number,
            idempotency_key=key,
            at=sent_at,
            model=prepared.model,
            service_tier=prepared.service_tier,
            window=prepared.window,
            worst_case_pusd=prepared.worst_case_pusd,
            caps=context.settings.shared_caps,
            metadata=prepared.metadata,
            fingerprint=prepared.fingerprint,
        )
    )
    if isinstance(attempt_id, Spending):  # other runs were faster
        _give_back(context, prepared, admitted_at)
        refresh_spending(context, attempt_id)
        return Returned(prepared)
    if attempt_id is None:  # cancelled by somebody else before it was ours
        _give_back(context, prepared, admitted_at)
        return Finished()
    context.count(State.PENDING, State.SUBMITTING)
    answer = await context.executor.submit(body, idempotency_key=key, client_request_id=f"{key}-{prepared.number}")
    open_ = OpenResponse(
        request_id=request.id,
        attempt_id=attempt_id,
        key=request.key,
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
        turn=request.turn,
        repairs=request.repairs,
    )
    now = context.clock.now()
    context.flow.heard |= not isinstance(answer, NeverSent)
    if isinstance(answer, Seen):
        record_success(context, context.create_circuit, sent_at)
        pool = context.pools.pool(prepared.model)
        pool.learn(now, sent_at, parse_rate_limits(answer.headers) if pool.wants_headers(now) else None)
        return await _accepted(context, open_, answer.response.id, answer.response.status, answer)
    return await _not_accepted(context, prepared, open_, answer)


def _give_back(context: Context, prepared: Prepared, admitted_at: float) -> None:
    """Nothing was sent: the budget and the limits have back what was taken of them."""
    context.budget.release(prepared.worst_case_pusd or 0)
    pool = context.pools.pool(prepared.model)
    pool.refund(context.clock.now(), prepared.tokens, taken_at=admitted_at)


async def _body(context: Context, prepared: Prepared, admitted_at: float) -> bytes | After:
    """What is to be sent, once all that it names is at the provider; or what becomes of the request without that."""
    body: bytes | After = prepared.body
    if prepared.new_conversation is not None:
        body = await _conversation(context, prepared, prepared.new_conversation)
    if prepared.uploads and isinstance(body, bytes):
        body = await _with_uploads(context, prepared, body)
    if not isinstance(body, bytes):
        _give_back(context, prepared, admitted_at)
    return body


async def _conversation(context: Context, prepared: Prepared, new: NewConversation) -> bytes | After:
    """The request's body with a conversation of its own for its chain; or what becomes of it without one.

    One whose reply was lost is left behind at the provider: it is empty, and costs nothing.
    """
    if new.body is not None:
        return new.body
    sent_at = context.clock.now()
    made = await context.executor.new_conversation(context.run.uid, new.chain)
    if isinstance(made, str):
        await context.store.keep_conversation(context.run.id, new.chain, made)
        new.body = new.encode(made)
        return new.body
    return await _not_yet(context, prepared, sent_at, made)


async def _with_uploads(context: Context, prepared: Prepared, body: bytes) -> bytes | After:
    """The request's body with the ids of its files; or what becomes of it without one of them."""
    if context.uploads is None:
        raise RuntimeError("a request names files, and nobody uploads them")
    for upload in prepared.uploads:
        sent_at = context.clock.now()
        try:
            file_id = await context.uploads.file_id(upload)
        except FileChanged as changed:
            await refuse(context, prepared.request, Unsendable("row_invalid", str(changed)))
            return Finished()
        if not isinstance(file_id, str):
            return await _not_yet(context, prepared, sent_at, file_id)
        body = body.replace(orjson.dumps(upload), orjson.dumps(file_id))
    return body


async def _not_yet(context: Context, prepared: Prepared, sent_at: float, problem: Problem) -> After:
    """What a request needs at the provider could not be made there; the request itself was not sent."""
    now = context.clock.now()
    verdict = context.creates.judge(problem)
    match verdict:
        case Halt():
            return Stopped.by(verdict, collect=_can_still_poll(problem))
        case Fail(code, message):
            await refuse(context, prepared.request, Unsendable(code, message))
            return Finished()
        case RateLimited():
            _bounced(context, prepared, sent_at, verdict, problem)
            return Returned(prepared)
    if (gone := unreachable(context, problem)) is not None:
        return gone
    record_failure(context, context.create_circuit, sent_at, "provider", again=False)
    again_at = now + retry_wait(1, context.rng)
    if prepared.request.not_before:
        return Queued(again_at)
    # On disk it was never put off, so nobody would come upon it there: it waits here.
    await context.clock.sleep_until(again_at)
    return Returned(prepared)


async def _accepted(context: Context, open_: OpenResponse, response_id: str, status: str, seen: Seen | None) -> After:
    """Write the response id down; only then is anything else done with it."""
    context.creates.accepted()
    now = context.clock.now()
    await context.store.accept(
        Acceptance(
            request_id=open_.request_id,
            attempt_id=open_.attempt_id,
            response_id=response_id,
            status=status,
            at=now,
        )
    )
    context.count(State.SUBMITTING, State.SUBMITTED)
    open_.response_id, open_.status = response_id, status
    open_.accepted_at = now
    waiting = first_poll(context, open_, seen)
    if seen is not None and seen.response.ended:
        return await settle(context, open_, seen.response)
    return waiting


async def _not_accepted(context: Context, prepared: Prepared, open_: OpenResponse, problem: Problem) -> After:
    """No response was created for certain, or nobody knows."""
    now = context.clock.now()
    verdict = context.creates.judge(problem)
    match verdict:
        case Found(response_id):
            return await _accepted(context, open_, response_id, "", None)
        case InDoubt(code, message):
            circuit = context.create_circuit
            record_failure(context, circuit, open_.sent_at, code, again=open_.attempts > 1)
            return await doubt(context, open_, code, message, counted=not circuit.excuses(now))
        case Halt():
            stopped = Stopped.by(verdict, collect=_can_still_poll(problem))
            # Told before anything is written: what is sent meanwhile would meet the same end.
            context.flow.stop(stopped)
            if verdict.maybe_sent:
                await doubt(context, open_, "submit_in_doubt", verdict.message)
            else:
                await _release(context, prepared, open_, problem, now)
            return stopped
        case RateLimited():
            _bounced(context, prepared, open_.sent_at, verdict, problem)
            await _release(context, prepared, open_, problem, now, rate_limited=True)
            return Returned(prepared)
        case Later(after_s):
            await _release(context, prepared, open_, problem, now + after_s)
            return Queued(now + after_s)
        case Outage(code, after_s, _):
            if (gone := unreachable(context, problem)) is not None:
                await _release(context, prepared, open_, problem, now)
                return gone
            record_failure(context, context.create_circuit, open_.sent_at, code, again=False)
            wait_s = retry_wait(1, context.rng, at_least_s=after_s)
            await _release(context, prepared, open_, problem, now + wait_s)
            return Queued(now + wait_s)
        case Retry() | Fail():
            return await end(context, open_, State.SUBMITTING, verdict, problem=problem)


async def _release(
    context: Context,
    prepared: Prepared,
    open_: OpenResponse,
    problem: Problem,
    at: float,
    *,
    rate_limited: bool = False,
) -> None:
    """Undo a claim: nothing was created, and the attempt is not counted."""
    await context.store.release(
        Release(request_id=open_.request_id, attempt_id=open_.attempt_id, not_before=at, rate_limited=rate_limited)
    )
    if isinstance(problem, NeverSent):
        _give_back(context, prepared, open_.sent_at)
    else:
        # The provider counts what it refuses, too.
        context.budget.release(prepared.worst_case_pusd or 0)
    context.count(State.SUBMITTING, State.PENDING)


def _bounced(context: Context, prepared: Prepared, sent_at: float, verdict: RateLimited, problem: Problem) -> None:
    context.progress.rate_limited += 1
    context.pools.pool(prepared.model).rate_limited(
        context.clock.now(),
        sent_at,
        retry_after_s=verdict.after_s,
        limits=problem.rate_limits if isinstance(problem, Refused) else None,
        slow_down=verdict.slow_down,
    )


def _can_still_poll(problem: Problem) -> bool:
    """Whether open responses can still be fetched after this: not with a key that is refused."""
    return isinstance(problem, Refused) and problem.status not in (401, 403)
