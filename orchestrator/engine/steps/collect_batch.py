"""Follow a batch to its end and settle each of its lines.

Lines are read as they arrive, and each settles its own request by a compare-and-set: a crash in the middle, a second
reading and a line that comes twice change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from orchestrator.core.errors import CODES
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import BatchError, NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.states import State
from orchestrator.engine.identity import ReplyIdentity
from orchestrator.engine.items import After, Halted, OpenResponse
from orchestrator.engine.open_batches import OpenBatch
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps.recover import opened
from orchestrator.engine.steps.settle import Settle
from orchestrator.policy.batches.batch_durations import BatchDurations, next_poll_at
from orchestrator.policy.batches.batch_verdicts import (
    Collect,
    OverTokenLimit,
    StillOpen,
    Unusable,
    WrongLines,
    judge_batch,
)
from orchestrator.policy.batches.enqueued_tokens import EnqueuedTokens
from orchestrator.policy.errors.judgement import judge_create
from orchestrator.policy.errors.verdicts import Fail, Full, Halt, InDoubt, Later, Outage, RateLimited, Retry
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.batch_lines import ResultLine, parse_result_line
from orchestrator.provider.batches import Batch, BatchClient
from orchestrator.provider.client import CallFailed
from orchestrator.stores.provider_batches import BatchNote
from orchestrator.stores.reads import OpenAttempt

__all__ = ["CollectBatch", "CollectTimes"]

# Lines that are settled together share a commit.
_AT_ONCE = 100
_LONGEST_WAIT_S = 60.0
# A batch or a file that the provider does not find is missed for so many polls before it counts as gone.
_MISSES = 5
_UNANSWERED = {"batch_expired", "batch_cancelled"}

_Settled: TypeAlias = Callable[[After], None]


@fast_dataclass
class CollectTimes:
    """How long lines that come late are waited for, and when a batch that does not end is cancelled."""

    grace_s: float
    give_up_after_s: float


class CollectBatch:
    """Polls batches, and settles their lines in whichever way they end; ``route`` passes the outcome of each on."""

    def __init__(
        self,
        run: RunContext,
        client: Callable[[], BatchClient],
        settle: Settle,
        *,
        route: _Settled,
        tokens: EnqueuedTokens,
        durations: BatchDurations,
        times: CollectTimes,
    ) -> None:
        self._run = run
        self._client = client
        self._settle = settle
        self._route = route
        self._tokens = tokens
        self._durations = durations
        self._times = times
        self._identity = ReplyIdentity(run)

    async def advance(self, batch: OpenBatch) -> float | None:
        """Poll a batch once; returns when to come back, or None if all of its lines are settled."""
        run, client = self._run, self._client()
        if self.is_newly_unwanted(batch):
            batch.cancelled_at = run.clock.now()
            # The next poll decides, not the answer to this.
            await client.cancel_batch(batch.batch_id or "")
        seen = await client.batch(batch.batch_id or "")
        run.observation.progress.polls += 1
        if not isinstance(seen, Batch):
            return await self._not_seen(batch, seen)
        batch.misses, batch.missing_since = 0, None
        if seen.status != batch.status:
            batch.status = seen.status
            await run.store.note_batch(batch.id, BatchNote(status=seen.status))
        verdict = judge_batch(seen.status, seen.errors, lines=batch.lines)
        match verdict:
            case StillOpen():
                return await self._still_open(batch)
            case Collect():
                return await self._collect(batch, seen)
            case OverTokenLimit():
                now = run.clock.now()
                wait_s = self._tokens.refused(batch.model, batch.tokens, now) - now
                await self._send_again(batch, Retry("token_limit_exceeded", wait_s, CODES["batch_refused"]))
            case WrongLines(errors):
                await self._fail_lines(batch, errors)
                await self._send_again(batch, Retry("batch_refused", message=CODES["batch_refused"]))
            case Unusable(code, message):
                run.status.halt(Halted(code, f"the provider refuses the batch: {message}", collect=True))
                await self._send_again(batch, Retry(code, message=message))
        await self._finish(batch, seen.status)
        return None

    # ── a batch that has not ended ────────────────────────────────────────────────────────────────────────

    def is_newly_unwanted(self, batch: OpenBatch) -> bool:
        """Whether the batch must be cancelled now, because what it has not answered is not waited for."""
        if batch.cancelled_at is not None or batch.ended_at is not None:
            return False
        status, now = self._run.status, self._run.clock.now()
        is_late = status.halted is not None and status.halted.code == "deadline"
        overdue = now >= (batch.submitted_at or now) + self._times.give_up_after_s
        return status.cancelling or is_late or overdue or batch.stage.name in status.recalled_stages

    async def _still_open(self, batch: OpenBatch) -> float | None:
        now = self._run.clock.now()
        since = batch.cancelled_at or batch.submitted_at or now
        if batch.cancelled_at is not None and now >= since + self._times.give_up_after_s:
            await self._lose_rest(batch)
            await self._finish(batch, batch.status or "")
            return None
        durations = self._durations.of(batch.model) if batch.cancelled_at is None else []
        return next_poll_at(now, since, durations)

    async def _not_seen(self, batch: OpenBatch, problem: Problem) -> float | None:
        now = self._run.clock.now()
        batch.misses += 1
        if isinstance(problem, Refused) and problem.status in (404, 410):
            batch.missing_since = batch.missing_since or now
            if batch.misses >= _MISSES and now >= batch.missing_since + self._times.grace_s:
                await self._lose_rest(batch)
                await self._finish(batch, "unknown")
                return None
        elif self._halts(problem):
            return now + _LONGEST_WAIT_S
        return now + self._wait_s(batch, problem)

    def _halts(self, problem: Problem) -> bool:
        verdict = judge_create(problem)
        if isinstance(verdict, Halt):
            self._run.status.halt(Halted.by(verdict, collect=False))
        return isinstance(verdict, Halt)

    def _wait_s(self, batch: OpenBatch, problem: Problem) -> float:
        after_s = problem.retry_after_s if isinstance(problem, Refused) else None
        return retry_wait(batch.misses, self._run.rng, at_least_s=max(1.0, after_s or 0.0), cap_s=_LONGEST_WAIT_S)

    # ── a batch that has ended ────────────────────────────────────────────────────────────────────────────

    async def _collect(self, batch: OpenBatch, seen: Batch) -> float | None:
        """Read both files, whichever there are; lines that are in neither may come late."""
        run = self._run
        if batch.ended_at is None:
            batch.ended_at = run.clock.now()
            await run.store.note_batch(batch.id, BatchNote(ended_at=batch.ended_at))
        late_at = batch.ended_at + self._times.grace_s
        read_at = run.clock.now()
        for file in filter(None, (seen.output_file, seen.error_file)):
            problem = await self._read(batch, file)
            if problem is not None and not (_is_gone(problem) and read_at >= late_at):
                batch.misses += 1
                return run.clock.now() + self._wait_s(batch, problem)
        if await run.reader.open_lines(batch.id, limit=1):
            if read_at < late_at:
                return min(read_at + max(1.0, (read_at - batch.ended_at) / 2), late_at)
            await self._lose_rest(batch)
        if seen.status == "completed" and batch.cancelled_at is None:
            self._durations.ended(batch.model, batch.ended_at - (batch.submitted_at or batch.ended_at))
        await self._finish(batch, seen.status)
        return None

    async def _read(self, batch: OpenBatch, file: str) -> Problem | None:
        """Settle the lines of a file; returns what kept it from being read to its end."""
        client, lines = self._client(), dict[str, ResultLine]()
        try:
            async for text in client.result_lines(file):
                line = parse_result_line(text, client.status_aliases)
                if line is not None and (line.custom_id not in lines or line.response is not None):
                    lines[line.custom_id] = line
                if len(lines) >= _AT_ONCE:
                    await self._settle_lines(batch, lines)
                    lines.clear()
        except CallFailed as failed:
            return failed.problem
        await self._settle_lines(batch, lines)
        return None

    async def _settle_lines(self, batch: OpenBatch, lines: dict[str, ResultLine]) -> None:
        ids = [int(each) for each in lines if each.isascii() and each.isdecimal() and len(each) < 20]
        found = await self._run.reader.open_lines(batch.id, attempt_ids=ids, limit=len(lines))
        await asyncio.gather(*(self._settle_line(attempt, lines[str(attempt.attempt_id)]) for attempt in found))

    async def _settle_line(self, attempt: OpenAttempt, line: ResultLine) -> None:
        open_ = self._opened(attempt)
        if line.response is not None:
            if self._identity.flaw_of_create(open_, line.response) is not None:
                return
            open_.response_id, open_.status = line.response.id, line.response.status
            open_.stage.first_creates[0].accepted()
            # The lane decides the price, whichever tier the response names.
            self._route(await self._settle.settle(open_, replace(line.response, service_tier="batch")))
        elif line.refusal is not None:
            self._route(await self._refused(open_, line.refusal))
        elif line.error_code is not None:
            problem = NeverSent(reason=line.message)
            verdict = Retry(line.error_code, message=CODES.get(line.error_code, line.message))
            blameless = line.error_code in _UNANSWERED
            after = await self._settle.end(open_, State.SUBMITTED, verdict, problem=problem, blameless=blameless)
            self._route(after)

    async def _refused(self, open_: OpenResponse, refusal: Refused) -> After:
        """The provider answered one line with an error: nothing was created for it."""
        verdict, end = open_.stage.first_creates[0].judge(refusal), self._settle.end
        match verdict:
            case Retry() | Fail():
                return await end(open_, State.SUBMITTED, verdict, problem=refusal)
            case Halt():
                self._run.status.halt(Halted.by(verdict, collect=True))
                again = Retry(verdict.code, message=verdict.message)
                return await end(open_, State.SUBMITTED, again, problem=refusal, blameless=True)
            case RateLimited() | Later() | Full():
                again = Retry(refusal.code or "rate_limited", verdict.after_s, refusal.message)
                return await end(open_, State.SUBMITTED, again, problem=refusal, blameless=True)
            case InDoubt() | Outage():
                again = Retry(verdict.code, message=verdict.message)
                return await end(open_, State.SUBMITTED, again, problem=refusal)
        return await end(open_, State.SUBMITTED, Retry("server_error"), problem=refusal)

    # ── lines that are not answered ───────────────────────────────────────────────────────────────────────

    def _opened(self, attempt: OpenAttempt) -> OpenResponse:
        open_ = opened(attempt, self._run.stages[attempt.stage])
        open_.attempts += 1
        return open_

    async def _fail_lines(self, batch: OpenBatch, errors: dict[int, BatchError]) -> None:
        """Fail the requests of the lines that the provider calls wrong."""
        places = await self._run.reader.line_attempts(batch.id, list(errors))
        why = {attempt_id: errors[number] for number, attempt_id in places.items()}
        lines = await self._run.reader.open_lines(batch.id, attempt_ids=list(why), limit=len(why))
        await asyncio.gather(*(self._fail(line, why[line.attempt_id]) for line in lines))

    async def _fail(self, attempt: OpenAttempt, error: BatchError) -> None:
        verdict = Fail(error.code or "batch_refused", error.message or CODES["batch_refused"])
        problem = Refused(status=400, code=error.code, message=error.message)
        self._route(await self._settle.end(self._opened(attempt), State.SUBMITTED, verdict, problem=problem))

    async def _send_again(self, batch: OpenBatch, verdict: Retry) -> None:
        """Nothing of the batch was asked: its requests are pending again, and no attempt is spent."""
        problem = NeverSent(reason=verdict.message)

        async def end(line: OpenAttempt) -> None:
            after = await self._settle.end(
                self._opened(line), State.SUBMITTED, verdict, problem=problem, blameless=True
            )
            self._route(after)

        while lines := await self._run.reader.open_lines(batch.id, limit=_AT_ONCE):
            await asyncio.gather(*map(end, lines))

    async def _lose_rest(self, batch: OpenBatch) -> None:
        """Ask again what is in no file, although it may have been answered and charged."""
        problem = ReplyLost(reason=CODES["batch_line_missing"])
        verdict = Retry("batch_line_missing", message=CODES["batch_line_missing"])

        async def lose(line: OpenAttempt) -> None:
            after = await self._settle.end(
                self._opened(line), State.SUBMITTED, verdict, problem=problem, possible_duplicate=True
            )
            self._route(after)

        while lines := await self._run.reader.open_lines(batch.id, limit=_AT_ONCE):
            await asyncio.gather(*map(lose, lines))

    async def delete_file(self, batch: OpenBatch) -> None:
        """Delete the uploaded file at the provider, and note that it is gone."""
        gone = await self._client().delete(batch.input_file or "", of="files")
        if isinstance(gone, bool):
            await self._run.store.note_batch(batch.id, BatchNote(file_deleted_at=self._run.clock.now()))

    async def _finish(self, batch: OpenBatch, status: str) -> None:
        now = self._run.clock.now()
        note = BatchNote(status=status, ended_at=batch.ended_at or now, collected_at=now)
        await self._run.store.note_batch(batch.id, note)


def _is_gone(problem: Problem) -> bool:
    return isinstance(problem, Refused) and problem.status in (404, 410)
