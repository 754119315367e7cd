"""Send a batch: claim its requests, upload the file, create the batch, write its id down.

Unlike the create call of one response, none of this is ever in doubt: the batch carries our mark, and is found again
in the provider's list.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.states import Event, State
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import Halted, Prepared
from orchestrator.engine.open_batches import FormingBatch, OpenBatch
from orchestrator.engine.run_context import RunContext
from orchestrator.policy.errors.judgement import judge_create
from orchestrator.policy.errors.verdicts import Fail, Halt, Later, Outage, RateLimited, Retry
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.batches import Batch, BatchClient, BatchUpload
from orchestrator.provider.client import CallFailed
from orchestrator.stores.provider_batches import BatchNote, NewProviderBatch
from orchestrator.stores.reads import OpenAttempt, OtherRequest, Spending
from orchestrator.stores.writes import Claim, Release

__all__ = ["MARK", "ClaimedBatch", "SendBatch"]

# The name of our own metadata pair, by which a batch is found again.
MARK = "orchestrator_batch"

_LONGEST_WAIT_S = 60.0
# The provider's clock may differ from ours by as much.
_CLOCK_SKEW_S = 3600.0
# A new batch that is not listed yet is looked for again after so long.
_LISTED_AGAIN_S = 2.0
_RELEASED_AT_ONCE = 200


@dataclass(slots=True, kw_only=True)
class ClaimedBatch:
    """A batch with its lines (the attempt of each, and the place of its request among those taken in).

    ``batch`` is None if nothing could be claimed. Requests that are not in it: those that no longer fit the caps over
    all runs, and those that other runs ask.
    """

    batch: OpenBatch | None
    lines: list[tuple[int, int]] = field(default_factory=list)
    over_caps: list[Prepared] = field(default_factory=list)
    asked_elsewhere: list[tuple[Prepared, Sequence[OtherRequest]]] = field(default_factory=list)


class SendBatch:
    """Sends batches; ``grace_s`` is how long a file or a batch that is not shown yet is waited for."""

    def __init__(self, run: RunContext, client: Callable[[], BatchClient], *, funds: Funds, grace_s: float) -> None:
        self._run = run
        self._client = client
        self._funds = funds
        # Jobs with batches have one endpoint.
        self._endpoint = run.endpoints[0]
        self._grace_s = grace_s

    async def claim(self, forming: FormingBatch) -> ClaimedBatch:
        """Claim all requests together with the batch, so that each is in exactly one."""
        run, now = self._run, self._run.clock.now()
        new = NewProviderBatch(
            run_id=run.record.id,
            stage=forming.stage.name,
            model=forming.model,
            uid=f"{run.record.uid}-{uuid.UUID(int=run.rng.getrandbits(128)).hex}",
            tokens=forming.size.tokens,
            made_at=now,
        )
        claims = [self._claim(prepared, now) for prepared in forming.requests]
        batch_id, results = await run.store.claim_batch(new, claims)
        claimed = ClaimedBatch(batch=None)
        for place, (prepared, result) in enumerate(zip(forming.requests, results, strict=True)):
            if isinstance(result, int):
                claimed.lines.append((result, place))
                run.observation.moved(State.PENDING, Event.CLAIM)
                continue
            self._funds.release(prepared.worst_case_pusd, prepared.request.stage)
            if isinstance(result, Spending):
                self._funds.refresh(result)
                claimed.over_caps.append(prepared)
            elif isinstance(result, list):
                claimed.asked_elsewhere.append((prepared, result))
        # The order by which the provider numbers the lines is found again from the attempts.
        claimed.lines.sort()
        if batch_id is not None:
            claimed.batch = OpenBatch(
                id=batch_id,
                uid=new.uid,
                stage=forming.stage,
                model=new.model,
                lines=len(claimed.lines),
                tokens=new.tokens,
                made_at=now,
            )
        return claimed

    def _claim(self, prepared: Prepared, now: float) -> Claim:
        run, request = self._run, prepared.request
        return Claim(
            request_id=request.id,
            run_id=run.record.id,
            stage=request.stage,
            number=prepared.number,
            idempotency_key=f"{run.record.uid}-{request.id}-{request.epoch}",
            at=now,
            model=prepared.model,
            service_tier=prepared.service_tier,
            window=prepared.window,
            lane=prepared.lane,
            worst_case_pusd=prepared.worst_case_pusd,
            caps=self._funds.caps,
            metadata=prepared.metadata,
            fingerprint=prepared.fingerprint,
            others_since=prepared.others_since,
        )

    async def send(self, batch: OpenBatch, forming: FormingBatch, lines: Sequence[tuple[int, int]]) -> bool:
        """Upload and create the batch; False if it was not created, and its requests are pending again."""
        tries = 0
        while self._run.status.may_send:
            problem = None
            if batch.input_file is None:
                problem = await self._upload(batch, forming, lines)
            if problem is None:
                problem = await self._create(batch)
            if problem is None:
                return True
            tries += 1
            wait_s = self._wait_s(batch, problem, tries)
            if wait_s is None:
                break
            await self._sleep(wait_s)
        await self.release(batch)
        return False

    async def resume(self, batch: OpenBatch) -> bool:
        """A batch whose creation an earlier process did not see: find it, or release its requests."""
        found = await self._find(batch) if batch.asked_at is not None else None
        if found is None:
            await self.release(batch)
            return False
        await self._attach(batch, found)
        return True

    async def _upload(
        self, batch: OpenBatch, forming: FormingBatch, lines: Sequence[tuple[int, int]]
    ) -> Problem | None:
        file = BatchUpload(name=f"{batch.uid}.jsonl", size=forming.file_size(lines), pieces=forming.pieces(lines))
        made = await self._client().upload_batch(file)
        self._endpoint.outages.reached |= not isinstance(made, NeverSent)
        if not isinstance(made, str):
            return made
        batch.input_file, batch.uploaded_at = made, self._run.clock.now()
        await self._run.store.note_batch(batch.id, BatchNote(input_file=made))
        return None

    async def _create(self, batch: OpenBatch) -> Problem | None:
        run = self._run
        batch.asked_at = run.clock.now()
        await run.store.note_batch(batch.id, BatchNote(asked_at=batch.asked_at))
        made = await self._client().create_batch(batch.input_file or "", {MARK: batch.uid})
        if isinstance(made, Batch):
            await self._attach(batch, made)
            return None
        if _may_exist(made) and (found := await self._find(batch)) is not None:
            await self._attach(batch, found)
            return None
        return made

    async def _attach(self, batch: OpenBatch, seen: Batch) -> None:
        run, now = self._run, self._run.clock.now()
        moved = await run.store.attach_batch(batch.id, seen.id, seen.status, now)
        for _ in range(moved):
            run.observation.moved(State.SUBMITTING, Event.ACCEPT)
        batch.batch_id, batch.status, batch.submitted_at = seen.id, seen.status, now

    async def _find(self, batch: OpenBatch) -> Batch | None:
        """Look for the batch in the provider's list, until it would certainly be there."""
        run, tries = self._run, 0
        while True:
            tries += 1
            asked_at, wait_s = run.clock.now(), _LISTED_AGAIN_S
            try:
                found = await self._client().find_batches(MARK, since=batch.made_at - _CLOCK_SKEW_S)
            except CallFailed as failed:
                if self._halts(failed.problem):
                    # What is in the list is not known, so nothing may be released.
                    await asyncio.Event().wait()
                wait_s = retry_wait(tries, run.rng, at_least_s=1.0, cap_s=_LONGEST_WAIT_S)
            else:
                if batch.uid in found:
                    return found[batch.uid]
                if asked_at >= (batch.asked_at or 0.0) + self._grace_s:
                    return None
            await self._sleep(wait_s)

    def _halts(self, problem: Problem) -> bool:
        verdict = judge_create(problem)
        if isinstance(verdict, Halt):
            self._run.status.halt(Halted.by(verdict, collect=False))
        return isinstance(verdict, Halt)

    def _wait_s(self, batch: OpenBatch, problem: Problem, tries: int) -> float | None:
        """How long to wait before the next try; None if the run halts."""
        run = self._run
        if _is_late_file(batch, problem):
            if run.clock.now() >= batch.uploaded_at + self._grace_s:
                batch.input_file = None
            return _LISTED_AGAIN_S
        if (halted := self._endpoint.outages.unreachable(problem)) is not None:
            run.status.halt(halted)
            return None
        verdict = judge_create(problem, overrides=self._endpoint.overrides)
        after_s: float | None = None
        match verdict:
            case Halt():
                run.status.halt(Halted.by(verdict, collect=True))
                return None
            case Fail(code, message):
                text = f"the provider takes no batches: {message}; lane: background asks without them"
                run.status.halt(Halted(code, text, collect=True))
                return None
            case Retry() | RateLimited() | Later() | Outage():
                after_s = verdict.after_s
        return retry_wait(tries, run.rng, at_least_s=after_s, cap_s=_LONGEST_WAIT_S)

    async def release(self, batch: OpenBatch) -> None:
        """Nothing was created: all requests of the batch are pending again."""
        run = self._run
        while lines := await run.reader.open_lines(batch.id, limit=_RELEASED_AT_ONCE):
            await asyncio.gather(*(self._release(line) for line in lines))
        await run.store.note_batch(batch.id, BatchNote(collected_at=run.clock.now()))

    async def _release(self, line: OpenAttempt) -> None:
        run = self._run
        release = Release(request_id=line.request_id, attempt_id=line.attempt_id, not_before=run.clock.now())
        if await run.store.release(release):
            self._funds.release(line.worst_case_pusd, line.stage)
            run.observation.moved(State.SUBMITTING, Event.RELEASE)

    async def _sleep(self, seconds: float) -> None:
        clock = self._run.clock
        await clock.sleep_until(clock.now() + seconds)


def _may_exist(problem: Problem) -> bool:
    """Whether the batch may have been created although its create call failed."""
    if isinstance(problem, Refused):
        return problem.status >= 500 or problem.status in (408, 409)
    return isinstance(problem, ReplyLost)


def _is_late_file(batch: OpenBatch, problem: Problem) -> bool:
    """Whether the provider does not know the file yet that it has just taken."""
    if not isinstance(problem, Refused) or problem.status not in (400, 404) or batch.input_file is None:
        return False
    words = problem.message.lower()
    return batch.input_file in problem.message or ("file" in words and ("find" in words or "found" in words))
