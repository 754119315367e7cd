"""A reference model of the store: plain objects in memory, and what each verb does to them.

It is the oracle of the contract: short enough to be checked by reading it, and nothing is kept that can be computed.
Sums are taken over the attempts when a reader asks for them, and every state comes from the state table. Ids of runs,
requests and attempts come from one counter, so that no test can compute one from another.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.core.errors import StoreError
from orchestrator.core.lanes import Lane
from orchestrator.core.model import MAIN_STAGE, Charge, NewRequest, PastUse, PlanMark, SkippedRow, Usage
from orchestrator.core.money import Bound
from orchestrator.core.stage_rows import NewGroup
from orchestrator.core.states import OPEN, SETTLED, TRANSITIONS, Event, RunState, State, first_state, move, settled_by
from orchestrator.stores import reads, writes
from orchestrator.stores.base import Advice, ViewReader
from orchestrator.stores.notices import MOST_TRIES, REPEAT_AFTER_S, NewNotice, PendingNotice
from orchestrator.stores.retained import ObjectKind, ProviderObject, Retained
from orchestrator.stores.shards import Shard
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.tables import Tables
from orchestrator.stores.uploaded_files import Upload
from orchestrator.stores.user_errors import dataset_locked, name_taken, run_locked, shard_locked

from .batch_model import BatchModel
from .dataset_model import DatasetModel
from .stage_model import StageModel

__all__ = ["ModelBackend"]

T = TypeVar("T")


# ── what there is ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(eq=False, kw_only=True)
class _Run:
    record: reads.Run
    counts: writes.Counts = field(default_factory=writes.Counts)
    latest_at: float | None = None
    skipped: dict[int, SkippedRow] = field(default_factory=dict)
    conversations: dict[str, str] = field(default_factory=dict)
    conversations_at: dict[str, str | None] = field(default_factory=dict)
    # Retention; the provider is None until a process has worked on the run.
    provider: str | None = None
    policy: str = ""
    exported_at: float | None = None
    inputs_dropped: int = 0
    outputs_dropped: int = 0

    @property
    def id(self) -> int:
        return self.record.id

    def change(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)

    def happened(self, at: float) -> None:
        self.latest_at = max(self.latest_at or 0.0, at)


@dataclass(eq=False, kw_only=True)
class _Request:
    id: int
    run: _Run
    key: str
    stage: str
    where: str
    position: int
    row: bytes
    state: State
    chain: str | None
    place: float | str | None
    not_before: float = 0.0
    attempts: int = 0
    epoch: int = 0
    turn: int = 0
    max_output_tokens: int | None = None
    code: str | None = None
    message: str | None = None
    settled_at: float | None = None
    fingerprint: bytes | None = None
    continuation: reads.Continuation | None = None
    same_as: _Request | None = None
    # The turn before it in its chain, and the attempt of another request whose answer it has.
    earlier: _Request | None = None
    answer: _Attempt | None = None
    tries: list[_Attempt] = field(default_factory=list)
    # The request of another run that it waits for, and whether that one took its open response over.
    waits_for: _Request | None = None
    adopted: bool = False
    # Whether rows of later stages must be made of it, and whether they were; of a group, what it waits for.
    passes_on: bool = False
    passed: bool = False
    level: int | None = None
    rows_missing: int = 0
    members: list[_Request] = field(default_factory=list)
    # What a person noted on it: a flag and a note.
    flagged: tuple[str, str] | None = None

    def has_flag(self, flag: str | None) -> bool:
        return flag is None or (self.flagged is not None and self.flagged[0] == flag)

    @property
    def number(self) -> int:
        return len(self.tries)

    @property
    def latest(self) -> _Attempt | None:
        return self.tries[-1] if self.tries else None

    @property
    def in_flight(self) -> bool:
        return self.state in OPEN and self.state is not State.AWAITING_TOOLS

    @property
    def repairs(self) -> int:
        return min(self.turn, sum(attempt.code == "output_invalid" for attempt in self.tries))

    def can(self, event: Event) -> bool:
        return (self.state, event) in TRANSITIONS

    def move(self, event: Event, **changes: Any) -> None:
        self.state = move(self.state, event)
        _set(self, **changes)

    def begin_turn(self, continuation: reads.Continuation) -> None:
        self.turn, self.attempts, self.continuation = self.turn + 1, 0, continuation


@dataclass(eq=False, kw_only=True)
class _Attempt:
    id: int
    request: _Request
    number: int
    idempotency_key: str
    model: str
    service_tier: str | None
    window: str | None
    worst_case_pusd: int | None
    metadata: dict[str, str]
    sent_at: float
    lane: Lane
    endpoint: str | None = None
    response_id: str | None = None
    # An earlier attempt holds the same response, and is charged for it; that of another run if it is adopted.
    shares: bool = False
    adopted: bool = False
    # The batch that it is a line of.
    batch: int | None = None
    status: str | None = None
    http_status: int | None = None
    accepted_at: float | None = None
    completed_at: float | None = None
    ended_at: float | None = None
    code: str | None = None
    message: str | None = None
    counted: bool = True
    possible_duplicate: bool = False
    charge: Charge | None = None
    charged_at: float = 0.0
    has_result: bool = False
    output_text: str | None = None
    body: bytes | None = None
    tool_calls: dict[str, reads.ToolCall] = field(default_factory=dict)
    progress: dict[int, ProgressEvent] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        return 0 if self.charge is None else self.charge.cost_pusd or 0

    @property
    def cost_is_unknown(self) -> bool:
        return self.charge is not None and self.charge.cost_pusd is None

    @property
    def usage(self) -> Usage | None:
        return None if self.charge is None else self.charge.usage

    @property
    def bound(self) -> int | None:
        """The most that it can cost, as far as that is not known."""
        if self.charge is None:
            return self.worst_case_pusd
        return self.charge.upper_bound_pusd if self.cost_is_unknown else 0

    def spend(self, charge: Charge, at: float) -> None:
        self.charge, self.charged_at = charge, at


def _set(target: object, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(target, name, value)


def _record(kind: type[T], source: object, **more: Any) -> T:
    """A record with the fields of ``source`` that have its fields' names, and ``more``."""
    names = [each.name for each in fields(kind) if hasattr(source, each.name)]  # type: ignore[arg-type]
    return kind(**({name: getattr(source, name) for name in names} | more))


def _is_in_batch(attempt: _Attempt | None) -> bool:
    return attempt is not None and attempt.batch is not None and attempt.response_id is None


def _day(at: float) -> int:
    return int(at // 86_400)


def _storable(text: str | None) -> str | None:
    return text and text.encode("utf-8", "replace").decode()


def _skipped(row: NewRequest) -> SkippedRow:
    return SkippedRow(position=row.position, where=row.where, reason=f"an earlier row has the key {row.key!r}")


# What costs can be grouped by, beside the user's metadata.
_GROUPINGS: dict[str, Callable[[_Attempt], str]] = {
    "run": lambda attempt: attempt.request.run.record.name,
    "model": lambda attempt: attempt.model or "unknown",
    "tier": lambda attempt: attempt.service_tier or "unknown",
    "day": lambda attempt: datetime.fromtimestamp(attempt.charged_at, UTC).date().isoformat(),
    "stage": lambda attempt: attempt.request.stage,
    "state": lambda attempt: attempt.request.state.value,
    "lane": lambda attempt: attempt.lane.value,
    "endpoint": lambda attempt: attempt.endpoint or "(one)",
}


def _group(attempt: _Attempt, by: str) -> str:
    if by in _GROUPINGS:
        return _GROUPINGS[by](attempt)
    return attempt.metadata.get(by.removeprefix("metadata."), "(none)")


def _some(source: object, *names: str) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def _bounds(tries: Iterable[_Attempt]) -> Bound:
    bounds = [attempt.bound for attempt in tries]
    return Bound(sum(bound or 0 for bound in bounds), bounds.count(None))


def _is_estimated(attempt: _Attempt) -> bool:
    return attempt.charge is not None and attempt.charge.estimated


def _estimated(tries: Iterable[_Attempt]) -> int:
    return sum(attempt.cost for attempt in tries if _is_estimated(attempt))


def _usage(tries: Iterable[_Attempt]) -> Usage | None:
    known = [attempt.usage for attempt in tries if attempt.usage is not None]
    return sum(known[1:], known[0]) if known else None


def _is_whole(request: _Request, since: float) -> bool:
    """Whether another run may take over the answer of a request."""
    latest = request.answer or request.latest
    answered = request.state is State.SUCCEEDED and (request.settled_at or 0.0) >= since
    return answered and latest is not None and latest.has_result and latest.status == "completed"


def _continued(request: _Request) -> dict[str, Any]:
    """What a request continues, beside its own fields."""
    earlier = request.earlier.latest if request.earlier is not None else None
    return {
        "earlier_response_id": None if earlier is None else earlier.response_id,
        "conversation_id": request.run.conversations.get(request.chain or ""),
    }


def _pending(request: _Request) -> reads.PendingRequest:
    earlier = request.earlier
    usage = earlier and _usage(earlier.tries[-1:])
    changes = {"follows": earlier and earlier.id, "earlier_tokens": usage.total_tokens if usage else 0}
    doubtful = [attempt for attempt in request.tries if attempt.possible_duplicate]
    there = request.tries if request.continuation else doubtful
    chain_at = request.run.conversations_at.get(request.chain or "") or (earlier and _endpoint_of(earlier.latest))
    places = {"stays_at": _endpoint_of(there[-1]) if there else None, "chain_at": chain_at}
    return _record(reads.PendingRequest, request, **changes, **places, **_continued(request))


def _endpoint_of(attempt: _Attempt | None) -> str | None:
    return None if attempt is None else attempt.endpoint


def _request(request: _Request) -> reads.RequestRecord:
    answer = request.answer
    return _record(
        reads.RequestRecord,
        request,
        continuation=request.continuation and request.continuation.fields,
        follows=request.earlier and request.earlier.key,
        answered_by=answer and answer.id,
        answered_in=answer and answer.request.run.record.name,
        answered_as=answer and answer.request.key,
        **_continued(request),
    )


_SHOWN_OF_ATTEMPTS = ("response_id", "status", "model", "service_tier", "lane", "endpoint")


def _result(request: _Request) -> reads.ResultRecord:
    shown = request.answer or request.latest
    known = sum(attempt.cost for attempt in request.tries)
    # An open attempt may cost its worst case; one that ended without a charge cost nothing.
    open_ = request.tries[-1:] if request.in_flight else []
    bounds = [attempt.bound for attempt in request.tries if attempt.cost_is_unknown or attempt in open_]
    bound = None if None in bounds else known + sum(each for each in bounds if each is not None)
    return _record(
        reads.ResultRecord,
        request,
        request_id=request.id,
        attempts=request.number,
        **{name: getattr(shown, name, None) for name in _SHOWN_OF_ATTEMPTS},
        output_text=shown and shown.output_text,
        usage=_usage(request.tries),
        cost_pusd=None if bounds else known,
        upper_bound_pusd=bound if bounds else None,
        possible_duplicates=sum(attempt.possible_duplicate for attempt in request.tries),
        submitted_at=shown and shown.sent_at,
        reused=request.answer is not None,
        is_group=request.level is not None,
        cost_estimated=any(_is_estimated(attempt) for attempt in request.tries),
        flag=request.flagged and request.flagged[0],
        note=(request.flagged and request.flagged[1]) or None,
    )


def _cost(group: tuple[str, ...], tries: Sequence[_Attempt]) -> reads.CostRow:
    wasted: Counter[str] = Counter()
    for attempt in tries:
        if attempt.code is not None:
            wasted[_waste(attempt)] += attempt.cost
    unknown = [attempt for attempt in tries if attempt.cost_is_unknown]
    duplicates = [attempt for attempt in tries if attempt.possible_duplicate]
    return reads.CostRow(
        group=group,
        responses=len(tries),
        usage=_usage(tries) or Usage(),
        cost_pusd=sum(attempt.cost for attempt in tries),
        cost_unknown=len(unknown),
        unknown_bound=_bounds(unknown),
        estimated_pusd=_estimated(tries),
        wasted=reads.Wasted(**wasted),
        possible_duplicates=len(duplicates),
        possible_duplicates_bound=_bounds(duplicates),
        cache_saved_pusd=sum(_saved(attempt.charge) for attempt in tries if attempt.charge is not None),
    )


def _waste(attempt: _Attempt) -> str:
    if attempt.possible_duplicate:
        return "duplicate"
    if attempt.code == "empty_output":
        return "empty"
    return "incomplete" if attempt.status == "incomplete" else "failed"


def _saved(charge: Charge) -> int:
    usage, price = charge.usage, charge.price
    if usage is None or price is None:
        return 0
    read, written = usage.cached_tokens, usage.cache_write_tokens
    return read * (price.input - price.cached) - written * (price.cache_write - price.input)


def _use(request: _Request) -> PastUse:
    priced = [attempt for attempt in request.tries if attempt.charge is not None and attempt.charge.price is not None]
    usage = _usage(priced) or Usage()
    return PastUse(
        requests=int(bool(priced)),
        responses=len(priced),
        **_some(usage, "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
        output_squares=usage.output_tokens**2,
        fees_pusd=sum(_fees(attempt.charge) for attempt in priced if attempt.charge is not None),
        seconds=sum(attempt.ended_at - attempt.sent_at for attempt in priced if attempt.ended_at is not None),
    )


def _fees(charge: Charge) -> int:
    use, price = charge.tool_use, charge.price
    if price is None:
        return 0
    searches = use.web_searches * price.fee_web_search + use.file_searches * price.fee_file_search
    return searches + use.code_sessions * price.fee_code_session


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(eq=False, kw_only=True)
class _Notice:
    new: NewNotice
    tries: int = 0
    taken_until: float = 0.0
    delivered: bool = False


class ModelBackend(DatasetModel, StageModel, BatchModel):
    """A database in memory, which is its own backend, store and reader."""

    address = "model"
    local_path = Path("model-of-a-database")

    def __init__(self) -> None:
        DatasetModel.__init__(self, self._of, _result)
        StageModel.__init__(
            self,
            self._of,
            self._add_one,
            lambda request: self._requests.pop(request.id),
            self._settle_dependents,
        )
        self._ids = count(1)
        self._runs: dict[int, _Run] = {}
        self._requests: dict[int, _Request] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._memory: dict[str, bytes] = {}
        # What removed runs spent, by day and whether it was play money.
        self._removed: Counter[tuple[int, bool]] = Counter()
        self._uploads: dict[str, Upload] = {}
        self._uses: set[tuple[str, int]] = set()
        # What the provider has no longer: in which run, whether it was there, and when.
        self._deleted: dict[tuple[ObjectKind, str], tuple[int, bool, float]] = {}
        self._locks: set[int] = set()
        # The run and the number of each; 0 is all of them.
        self._shard_locks: set[tuple[int, int]] = set()
        self._notices: dict[str, _Notice] = {}

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[ModelBackend]:
        yield self

    @asynccontextmanager
    async def open_reader(self) -> AsyncIterator[ModelBackend]:
        yield self

    def open_view(self) -> AbstractAsyncContextManager[ViewReader]:
        raise StoreError("the web view does not read the model")

    async def exists(self) -> bool:
        return True

    async def check(self) -> None: ...

    def open_tables(self, *, writes: bool) -> AbstractContextManager[Tables]:
        raise NotImplementedError

    async def advice(self) -> Sequence[Advice]:
        return ()

    @contextmanager
    def lock(self, run_id: int, name: str) -> Iterator[None]:
        if run_id in self._locks:
            raise run_locked(name, holder="this process")
        if any(run == run_id for run, _ in self._shard_locks):
            raise shard_locked(name)
        self._locks.add(run_id)
        try:
            yield
        finally:
            self._locks.discard(run_id)

    @contextmanager
    def lock_dataset(self, dataset_id: int, name: str) -> Iterator[None]:
        if -dataset_id in self._locks:
            raise dataset_locked(name, holder="this process")
        with self.lock(-dataset_id, name):
            yield

    def is_locked(self, run_id: int) -> bool:
        return run_id in self._locks

    @contextmanager
    def lock_shard(self, run_id: int, number: int, name: str) -> Iterator[None]:
        if not self._shard_locks.isdisjoint({(run_id, number), (run_id, 0)}):
            raise shard_locked(name)
        self._shard_locks.add((run_id, number))
        try:
            yield
        finally:
            self._shard_locks.discard((run_id, number))

    @contextmanager
    def lock_shards(self, run_id: int, name: str) -> Iterator[None]:
        if any(run == run_id for run, _ in self._shard_locks):
            raise shard_locked(name)
        with self.lock_shard(run_id, 0, name):
            yield

    # ── verbs: retention, uploads, streams ────────────────────────────────────────────────────────────────

    async def keep_policy(self, run_id: int, provider: str, policy: str) -> None:
        _set(self._runs[run_id], provider=provider, policy=policy)

    async def note_export(self, run_id: int, at: float) -> None:
        self._runs[run_id].exported_at = at

    async def note_deleted(self, run_id: int, gone: ProviderObject, *, was_there: bool, at: float) -> None:
        self._deleted.setdefault((gone.kind, gone.provider_id), (run_id, was_there, at))

    async def drop(self, run_id: int, *, inputs: bool, outputs: bool) -> None:
        settled = self._of(run_id, *SETTLED)
        if inputs:
            self._runs[run_id].inputs_dropped += sum(request.row != b"" for request in settled)
            for request in settled:
                _set(request, row=b"", continuation=None)
        if not outputs:
            return
        shared = {request.answer for request in self._requests.values() if request.run.id != run_id}
        for attempt in (attempt for request in settled for attempt in request.tries):
            for call_id, call in attempt.tool_calls.items():
                attempt.tool_calls[call_id] = replace(call, arguments="", output="")
            if attempt.has_result and attempt not in shared:
                _set(attempt, has_result=False, output_text=None, body=None)
                self._runs[run_id].outputs_dropped += 1

    async def add_upload(self, upload: Upload, run_id: int) -> None:
        self._uploads.setdefault(upload.file_id, upload)
        await self.use_upload(upload.file_id, run_id)

    async def use_upload(self, file_id: str, run_id: int) -> None:
        self._uses.add((file_id, run_id))

    async def add_progress(self, attempt_id: int, events: Sequence[ProgressEvent]) -> None:
        for event in events:
            self._attempts[attempt_id].progress.setdefault(event.sequence, event)

    def check_in_place(self) -> None:
        pass

    # ── verbs: runs ───────────────────────────────────────────────────────────────────────────────────────

    async def create_run(self, run: writes.NewRun) -> reads.Run:
        if any(each.record.name == run.name for each in self._runs.values()):
            raise name_taken(run.name)
        begun = {"state": RunState.ACTIVE, "reason": None, "ended_at": None, "cancel_requested": False}
        plan = PlanMark(position=0, complete=False)
        record = _record(reads.Run, run, id=next(self._ids), plan=plan, **begun)
        self._runs[record.id] = _Run(record=record)
        return record

    async def set_run_state(
        self,
        run_id: int,
        state: RunState,
        reason: str | None,
        at: float,
        *,
        notices: Sequence[NewNotice] = (),
        resume_at: float | None = None,
    ) -> None:
        ended_at = None if state is RunState.ACTIVE else at
        self._runs[run_id].change(state=state, reason=reason, ended_at=ended_at, resume_at=resume_at)
        await self.add_notices(notices)

    async def add_notices(self, notices: Sequence[NewNotice]) -> None:
        for notice in notices:
            same = [
                each.new
                for each in self._notices.values()
                if each.new.receiver == notice.receiver
                and (each.new.run_id, each.new.event, each.new.cause) == (notice.run_id, notice.event, notice.cause)
                and notice.run_id is not None
            ]
            if all(notice.created_at - each.created_at >= REPEAT_AFTER_S for each in same):
                self._notices.setdefault(notice.message_id, _Notice(new=notice))

    async def set_flag(self, request_id: int, flag: str | None, note: str, at: float) -> bool:
        request = self._requests.get(request_id)
        if request is not None:
            assert at
            request.flagged = None if flag is None else (flag, note.encode(errors="replace").decode())
        return request is not None

    async def add_pulse(self, run_id: int, at: float) -> None:
        """Samples are for the web view, which does not read the model."""

    async def take_notices(self, receivers: Sequence[str], *, at: float, for_s: float) -> list[PendingNotice]:
        taken = [
            each
            for each in self._notices.values()
            if not each.delivered and each.tries < MOST_TRIES and each.taken_until <= at
            if each.new.receiver in receivers
        ]
        for each in taken:
            each.taken_until = at + for_s
        taken.sort(key=lambda each: (each.new.created_at, each.new.message_id))
        return [_record(PendingNotice, each.new, tries=each.tries) for each in taken]

    async def note_delivery(
        self,
        message_id: str,
        *,
        delivered: bool,
        error: str | None,  # noqa: ARG002
        at: float,  # noqa: ARG002
    ) -> None:
        notice = self._notices[message_id]
        notice.tries += 1
        notice.delivered = notice.delivered or delivered
        notice.taken_until = notice.taken_until if delivered else 0.0

    async def adapt_run(
        self, run_id: int, *, budget_pusd: int | None, deadline_at: float | None, input_identity: str
    ) -> None:
        self._runs[run_id].change(budget_pusd=budget_pusd, deadline_at=deadline_at, input_identity=input_identity)

    async def keep_spec(self, run_id: int, spec_json: str, *, reopen_plan: bool) -> None:
        run = self._runs[run_id]
        run.change(spec_json=spec_json)
        if reopen_plan:
            plan = replace(run.record.plan, complete=False)
            run.change(plan=plan, state=RunState.ACTIVE, reason=None, ended_at=None)

    async def replace_run(self, run_id: int, run: writes.NewRun) -> bool:
        if await self.has_accepted(run_id):
            return False
        for request in list(self._of(run_id)):
            del self._requests[request.id]
        old = self._runs[run_id]
        begun = {"state": RunState.ACTIVE, "reason": None, "ended_at": None, "cancel_requested": False}
        new = replace(run, name=old.record.name, uid=old.record.uid, simulated=old.record.simulated)
        new = replace(new, created_at=old.record.created_at)
        plan = PlanMark(position=0, complete=False)
        self._runs[run_id] = _Run(
            record=_record(reads.Run, new, id=run_id, plan=plan, **begun), provider=old.provider, policy=old.policy
        )
        return True

    async def remove_run(self, run_id: int, *, names: Sequence[str] = ()) -> None:
        gone = {request.id for request in self._of(run_id)}
        for attempt in [each for each in self._attempts.values() if each.request.id in gone]:
            if attempt.charge is not None:
                simulated = attempt.request.run.record.simulated
                self._removed[_day(attempt.charged_at), simulated] += attempt.cost + (attempt.bound or 0)
            del self._attempts[attempt.id]
        for request_id in gone:
            del self._requests[request_id]
        self._notices = {name: each for name, each in self._notices.items() if each.new.run_id != run_id}
        for request in self._requests.values():
            if request.answer is not None and request.answer.request.id in gone:
                copy = replace(request.answer, id=next(self._ids), request=request, number=request.number + 1)
                _set(copy, shares=True, charge=None, charged_at=0.0, possible_duplicate=False)
                request.tries.append(copy)
                self._attempts[copy.id] = request.answer = copy
                request.run.happened(max(copy.sent_at, copy.accepted_at or 0.0, copy.ended_at or 0.0))
        for name in names:
            self._memory.pop(name, None)
        del self._runs[run_id]

    async def add_counts(self, run_id: int, counts: writes.Counts) -> None:
        run = self._runs[run_id]
        run.counts = writes.Counts(
            **{name: getattr(run.counts, name) + value for name, value in asdict(counts).items()}
        )

    async def remember(self, name: str, value: bytes) -> None:
        self._memory[name] = value

    # ── verbs: planning ───────────────────────────────────────────────────────────────────────────────────

    async def add_rows(
        self,
        run_id: int,
        rows: Sequence[NewRequest],
        skipped: Sequence[SkippedRow],
        mark: PlanMark,
        *,
        skip_taken: bool = False,
        groups: Sequence[NewGroup] = (),
    ) -> list[NewRequest]:
        run = self._runs[run_id]
        positions = {(request.stage, request.key): request.position for request in self._of(run_id)}
        new, taken = [], []
        for row in rows:
            if (row.stage, row.key) not in positions:
                positions[row.stage, row.key] = row.position
                new.append(row)
            elif positions[row.stage, row.key] != row.position:
                taken.append(row)
        if taken and not skip_taken:
            return taken
        for row in new:
            self._add_one(run_id, row, first_state(in_chain=row.chain is not None))
        self._add_groups(run_id, groups)
        for each in (*skipped, *(_skipped(row) for row in taken)):
            run.skipped.setdefault(each.position, each)
        before = run.record.plan
        run.change(
            plan=PlanMark(position=max(before.position, mark.position), complete=before.complete or mark.complete)
        )
        return taken

    def _add_one(self, run_id: int, row: object, state: State) -> _Request:
        more = {"id": next(self._ids), "run": self._runs[run_id], "state": state}
        if not hasattr(row, "chain"):
            more |= {"chain": None, "place": None}
        request = _record(_Request, row, **more)
        self._requests[request.id] = request
        return request

    def _request_of(self, request_id: int) -> _Request:
        return self._requests[request_id]

    def _is_planned(self, run_id: int) -> bool:
        return self._runs[run_id].record.plan.complete

    async def link_chains(self, run_id: int, at: float) -> int:
        chains: defaultdict[str, list[_Request]] = defaultdict(list)
        for request in self._of(run_id):
            if request.chain is not None:
                chains[request.chain].append(request)
        for turns in chains.values():
            turns.sort(key=lambda turn: (isinstance(turn.place, str), turn.place, turn.id))
            for earlier, turn in zip([None, *turns], turns, strict=False):
                if turn.state is State.BLOCKED:
                    turn.earlier = earlier
        blocked = [turn for turn in self._of(run_id, State.BLOCKED) if turn.waits_for is None]
        first = [turn for turn in blocked if turn.earlier is None and turn.same_as is None]
        for turn in first:
            turn.move(Event.UNBLOCK, not_before=at)
        return len(first)

    async def keep_conversation(
        self, run_id: int, chain: str, conversation_id: str, endpoint: str | None = None
    ) -> None:
        self._runs[run_id].conversations.setdefault(chain, conversation_id)
        self._runs[run_id].conversations_at.setdefault(chain, endpoint)

    # ── verbs: one attempt ────────────────────────────────────────────────────────────────────────────────

    async def claim(
        self, claim: writes.Claim
    ) -> int | reads.Spending | reads.Duplicate | list[reads.OtherRequest] | None:
        if claim.asks_once and claim.fingerprint is not None:
            known = (await self.duplicates(claim.run_id, [claim.fingerprint])).get(claim.fingerprint)
            if known is not None and known.request_id != claim.request_id:
                return known if self._requests[claim.request_id].state is State.PENDING else None
        if claim.others_since is not None and claim.fingerprint is not None:
            others = (await self.others(claim.run_id, {claim.fingerprint: claim.others_since})).get(claim.fingerprint)
            if others:
                return others if self._requests[claim.request_id].state is State.PENDING else None
        if claim.caps is not None:
            spent = await self.spending(claim.caps, claim.at)
            if not spent.has_room(claim.caps, claim.worst_case_pusd or 0):
                return spent
        request = self._requests.get(claim.request_id)
        if request is None or (request.run.id, request.stage) != (claim.run_id, claim.stage):
            return None
        if not request.can(Event.CLAIM):
            return None
        metadata = json.loads(claim.metadata or "{}")
        attempt = _record(_Attempt, claim, id=next(self._ids), request=request, metadata=metadata, sent_at=claim.at)
        self._attempts[attempt.id] = attempt
        request.tries.append(attempt)
        request.move(Event.CLAIM, fingerprint=claim.fingerprint or request.fingerprint)
        request.run.happened(claim.at)
        return attempt.id

    async def accept(self, acceptance: writes.Acceptance) -> bool:
        attempt = self._latest(acceptance.request_id, acceptance.attempt_id)
        move(acceptance.from_state, Event.ACCEPT)
        if attempt is None or attempt.request.state is not acceptance.from_state:
            return False
        holder = self._holder(acceptance.response_id)
        if holder is not None and holder.request is not attempt.request and not acceptance.adopted:
            return False
        shares = holder is not None
        attempt.request.move(Event.ACCEPT, code=None, message=None)
        attempt.request.run.happened(acceptance.at)
        known = _some(acceptance, "response_id", "status")
        _set(attempt, **known, accepted_at=acceptance.at, shares=shares, code=None, message=None)
        return True

    async def release(self, release: writes.Release) -> bool:
        attempt = self._latest(release.request_id, release.attempt_id)
        if attempt is None or not attempt.request.can(Event.RELEASE):
            return False
        attempt.request.move(Event.RELEASE, not_before=release.not_before)
        attempt.request.tries.pop()
        del self._attempts[attempt.id]
        await self.add_counts(attempt.request.run.id, writes.Counts(rate_limited=int(release.rate_limited)))
        return True

    async def end(self, ending: writes.Ending) -> list[reads.Dependent] | None:
        event, to = ending.event, ending.to
        attempt = self._latest(ending.request_id, ending.attempt_id)
        if attempt is None or attempt.request.state is not ending.from_state:
            return None
        if ending.response_id is not None and attempt.response_id is None:
            _set(attempt, response_id=ending.response_id, shares=self._holder(ending.response_id) is not None)
        charge = None if attempt.shares else ending.charge
        if charge is not None and charge.cost_pusd is not None and attempt.response_id is None:
            raise ValueError("a charge of known cost needs a response id")
        request, again, in_doubt = attempt.request, to is State.PENDING, event is Event.LOSE
        message, text = _storable(ending.message), _storable(ending.output_text)
        request.move(
            event,
            # 0 would mean "never delayed": a reader of fresh requests has passed this one.
            not_before=max(ending.not_before, ending.at) if again else 0.0,
            attempts=request.attempts + (ending.count_attempt and not in_doubt),
            epoch=request.epoch + ending.renew_idempotency,
            max_output_tokens=ending.max_output_tokens or request.max_output_tokens,
            code=None if again else ending.code,
            message=None if again else message,
            settled_at=ending.at if to in SETTLED else None,
        )
        request.run.happened(ending.at)
        _set(
            attempt,
            **_some(ending, "http_status", "completed_at", "code"),
            **{name: value for name, value in _some(ending, "status", "model", "service_tier").items() if value},
            message=message,
            ended_at=None if in_doubt else ending.at,
            counted=ending.count_attempt or in_doubt,
            possible_duplicate=ending.possible_duplicate and not in_doubt,
        )
        if charge is not None:
            attempt.spend(charge, ending.at)
        holder = self._holder(attempt.response_id or "") if attempt.adopted else None
        if holder is not None and holder.ended_at is None:
            self._end_holder(holder, attempt, ending)
        else:
            holder = None
        with_result = holder if holder is not None and event is Event.SUCCEED else attempt
        if (ending.body is not None or text) and not with_result.has_result:
            _set(with_result, has_result=True, output_text=text, body=ending.body)
        if with_result is not attempt:
            request.answer = attempt = with_result
        if ending.continuation is not None:
            request.begin_turn(ending.continuation)
        return self._settle_dependents(request, event, ending.at, attempt) if to in SETTLED else []

    def _end_holder(self, holder: _Attempt, attempt: _Attempt, ending: writes.Ending) -> None:
        """End the attempt that asked for an adopted response, as the one that adopted it has ended."""
        names = ("http_status", "completed_at", "code", "message", "ended_at", "counted", "possible_duplicate")
        _set(holder, **_some(attempt, *names))
        given = _some(ending, "status", "model", "service_tier")
        _set(holder, **{name: value for name, value in given.items() if value})
        if ending.charge is not None:
            holder.spend(ending.charge, ending.at)
        text = _storable(ending.output_text)
        if ending.body is not None or text:
            _set(holder, has_result=True, output_text=text, body=ending.body)
        holder.request.run.happened(ending.at)

    async def leave(self, leaving: writes.Leaving) -> list[reads.Dependent] | None:
        attempt = self._latest(leaving.request_id, leaving.attempt_id)
        if attempt is None or attempt.request.state is not State.AWAITING_TOOLS:
            return None
        request, event = attempt.request, leaving.event
        request.move(
            event,
            not_before=leaving.at if leaving.to is State.PENDING else 0.0,
            code=leaving.code,
            message=_storable(leaving.message),
            settled_at=leaving.at if leaving.to in SETTLED else None,
        )
        request.run.happened(leaving.at)
        if leaving.continuation is not None:
            request.begin_turn(leaving.continuation)
            return []
        return self._settle_dependents(request, event, leaving.at, attempt)

    async def name_response(self, attempt_id: int, response_id: str) -> bool:
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.response_id or attempt.ended_at is None or self._holder(response_id):
            return False
        attempt.response_id = response_id
        return True

    async def late_charge(self, attempt_id: int, charge: Charge, status: str, body: bytes | None) -> bool:
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.shares or (attempt.charge is not None and not attempt.cost_is_unknown):
            return False
        at = attempt.charged_at if attempt.charge is not None else attempt.ended_at or attempt.sent_at
        attempt.spend(charge, at)
        attempt.status = status
        if body is not None:
            _set(attempt, has_result=True, body=body)
        return True

    async def fail_pending(self, request_id: int, code: str, message: str, at: float) -> list[reads.Dependent] | None:
        request = self._requests[request_id]
        if request.state is not State.PENDING:
            return None
        request.move(Event.FAIL, code=code, message=_storable(message), settled_at=at)
        return self._settle_dependents(request, Event.FAIL, at, None)

    async def cancel_unsent(self, request_id: int, at: float) -> list[reads.Dependent] | None:
        request = self._requests[request_id]
        if request.state not in (State.PENDING, State.BLOCKED):
            return None
        request.move(Event.CANCEL, code="cancelled", message=None, settled_at=at)
        return self._settle_dependents(request, Event.CANCEL, at, None)

    async def note_status(self, attempt_id: int, status: str) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is not None and attempt.ended_at is None:
            attempt.status = status

    async def add_tool_call(self, call: reads.ToolCall) -> None:
        stored = replace(call, arguments=_storable(call.arguments) or "", output=_storable(call.output) or "")
        self._attempts[call.attempt_id].tool_calls.setdefault(call.call_id, stored)

    def _latest(self, request_id: int, attempt_id: int) -> _Attempt | None:
        """The attempt, if it is the latest one of this request."""
        attempt = self._attempts.get(attempt_id)
        return attempt if attempt and attempt.request.id == request_id and attempt.request.latest is attempt else None

    # ── verbs: requests that depend on others ─────────────────────────────────────────────────────────────

    async def join(
        self, request_id: int, original: reads.Duplicate, fingerprint: bytes, at: float
    ) -> list[reads.Dependent] | None:
        request, first = self._requests[request_id], self._requests[original.request_id]
        settled = settled_by(first.state)
        if settled not in (None, Event.SUCCEED) and not original.here:
            return []
        if request.state is not State.PENDING:
            return None
        event = settled or Event.JOIN
        answer = first.answer or first.latest if first.state is State.SUCCEEDED else None
        request.move(
            event,
            fingerprint=fingerprint,
            same_as=first if original.here else None,
            code=first.code if settled else None,
            message=first.message if settled else None,
            settled_at=at if settled else None,
            answer=answer,
        )
        joined = [reads.Dependent(request.key, request.state, request.code)]
        if settled:
            return joined + self._settle_dependents(request, settled, at, answer)
        request.waits_for, request.adopted = None if original.here else first, False
        return joined

    async def adopt(self, given: writes.Adoption) -> reads.OpenAttempt | None:
        request, other = self._requests[given.request_id], self._requests[given.adopted_id]
        before = other.latest
        if other.state is not given.from_state or before is None or before.response_id is None:
            return None
        if request.state is not State.PENDING or request.number != given.number - 1:
            return None
        ended = other.state is State.AWAITING_TOOLS
        kept = _some(
            before,
            "idempotency_key",
            "model",
            "service_tier",
            "window",
            "metadata",
            "sent_at",
            "response_id",
            "lane",
            "endpoint",
        )
        attempt = _Attempt(
            id=next(self._ids), request=request, number=given.number, worst_case_pusd=None, shares=True, adopted=True,
            **kept, **_some(before, "status", "accepted_at", "completed_at"), ended_at=given.at if ended else None,
        )  # fmt: skip
        self._attempts[attempt.id] = attempt
        request.tries.append(attempt)
        request.move(Event.CLAIM, fingerprint=given.fingerprint, turn=other.turn, not_before=0.0)
        request.move(Event.ACCEPT)
        if other.turn:
            request.continuation = other.continuation
        if ended:
            request.move(Event.CALL)
            _set(attempt, **_some(before, "has_result", "output_text", "body"))
            attempt.tool_calls = {
                call_id: replace(call, attempt_id=attempt.id) for call_id, call in before.tool_calls.items()
            }
        other.move(Event.CONTINUE if ended else Event.RETRY)
        other.move(Event.JOIN)
        self._end_shared(before, given.at)
        for waiting in self._requests.values():
            if waiting.waits_for is other and waiting is not request:
                waiting.waits_for = request
        other.waits_for, other.adopted = request, True
        request.run.happened(given.at)
        return self._open(request, attempt, repairs=0)

    @staticmethod
    def _end_shared(attempt: _Attempt, at: float) -> None:
        if attempt.shares and attempt.ended_at is None:
            _set(attempt, ended_at=at, counted=False)
            attempt.request.run.happened(at)

    async def end_wait(self, request_id: int, at: float, *, is_over: bool) -> list[reads.Dependent] | None:
        request = self._requests[request_id]
        other, latest = request.waits_for, request.latest
        if other is None or request.state is not State.BLOCKED:
            return None
        outcome, answer = settled_by(other.state), other.answer or other.latest
        if outcome is None and not is_over:
            return None
        request.waits_for, attempt = None, latest
        _set(request, code=None, message=None, not_before=0.0)
        if outcome is Event.SUCCEED and (request.adopted or _is_whole(other, 0.0)):
            attempt = answer
            own = answer is not None and answer.request is request
            request.move(outcome, settled_at=at, answer=None if own else answer)
        elif outcome is Event.FAIL and request.adopted:
            request.move(outcome, settled_at=at, code=other.code, message=other.message)
        elif outcome is None and request.adopted and self._take_back(latest, other, at):
            for event in (Event.UNBLOCK, Event.CLAIM, Event.ACCEPT):
                request.move(event, not_before=0.0)
            return [reads.Dependent(request.key, request.state)]
        else:
            request.move(Event.UNBLOCK, not_before=at)
            return [reads.Dependent(request.key, request.state)]
        moved = [reads.Dependent(request.key, request.state, request.code)]
        return moved + self._settle_dependents(request, outcome, at, attempt)

    def _take_back(self, latest: _Attempt | None, other: _Request, at: float) -> bool:
        if latest is None or latest.ended_at is not None or other.state is not State.SUBMITTED:
            return False
        other.move(Event.RETRY)
        self._end_shared(other.tries[-1], at)
        return True

    def _settle_dependents(
        self, first: _Request, event: Event, at: float, answer: _Attempt | None
    ) -> list[reads.Dependent]:
        """Move the blocked requests that depend on one which was settled by ``event``."""
        succeeded = event is Event.SUCCEED
        moved = self._blocked(lambda other: other.same_as is first)
        for other in moved:
            answered = answer if succeeded else None
            other.move(event, code=first.code, message=first.message, settled_at=at, answer=answered)
        later = self._blocked(lambda other: other.earlier is first)
        moved += later
        if succeeded:
            for turn in later:
                turn.move(Event.UNBLOCK, not_before=at)
        while later and not succeeded:
            turn = later.pop()
            broken = ("chain_broken", f"an earlier turn of the chain failed with {first.code}")
            code, message = ("cancelled", None) if event is Event.CANCEL else broken
            turn.move(event, code=code, message=message, settled_at=at)
            rest = self._blocked(lambda other, turn=turn: other.earlier is turn)  # type: ignore[misc]
            later, moved = later + rest, moved + rest
        return [reads.Dependent(request.key, request.state, request.code) for request in moved]

    def _blocked(self, chosen: Callable[[_Request], bool]) -> list[_Request]:
        return [request for request in self._requests.values() if request.state is State.BLOCKED and chosen(request)]

    # ── verbs: what an operator asks for ──────────────────────────────────────────────────────────────────

    async def request_cancel(self, run_id: int, at: float) -> None:
        self._runs[run_id].change(cancel_requested=True)
        for request in self._of(run_id, State.PENDING, State.BLOCKED):
            request.waits_for = None
            request.move(Event.CANCEL, code="cancelled", message=None, settled_at=at)

    async def requeue(self, requeue: writes.Requeue) -> int:
        run_id, code = requeue.run_id, requeue.code
        chosen = [
            request
            for request in (self._of(run_id, *requeue.states) if requeue.states else [])
            if code in (None, request.code)
            and request.has_flag(requeue.flag)
            and requeue.stage in (None, request.stage)
            and not (request.level is not None and not request.tries)
            and (request.earlier is None or request.earlier.state is State.SUCCEEDED)
        ]
        for request in chosen:
            if request.code == "previous_response_not_found" and request.state is State.FAILED:
                request.turn, request.continuation = 0, None
            self._queue_again(request, Event.REQUEUE)
            request.same_as = None
            request.passes_on = request.passes_on or request.passed
        if requeue.resolution is not None:
            in_doubt = [each for each in self._of(run_id, State.IN_DOUBT) if code in (None, each.code)]
            in_doubt = [
                each for each in in_doubt if requeue.stage in (None, each.stage) and each.has_flag(requeue.flag)
            ]
            for request in in_doubt:
                self._resolve(request, requeue.resolution, requeue.at)
            chosen += in_doubt
        groups = self._block_groups(requeue) if chosen or (code is None and requeue.flag is None) else 0
        if not chosen and not groups:
            return 0
        self._runs[run_id].change(state=RunState.ACTIVE, reason=None, ended_at=None, cancel_requested=False)
        return len(chosen) + groups + self._block_again(run_id)

    def _queue_again(self, request: _Request, event: Event) -> None:
        # What continues a response is not fresh, so that it is read with what it continues.
        not_before = float(request.turn > 0 or request.chain is not None)
        request.move(event, attempts=0, code=None, message=None, settled_at=None, not_before=not_before)

    def _resolve(self, request: _Request, event: Event, at: float) -> None:
        attempt = request.tries[-1]
        unknown = Charge(usage=None, cost_pusd=None, upper_bound_pusd=attempt.worst_case_pusd, price=None)
        attempt.spend(unknown, at)
        _set(attempt, ended_at=at, counted=True, possible_duplicate=event is Event.RETRY)
        request.run.happened(at)
        if event is Event.RETRY:
            self._queue_again(request, event)
        else:
            request.move(event, attempts=request.attempts + 1, settled_at=at)
            self._settle_dependents(request, event, at, attempt)

    def _block_again(self, run_id: int) -> int:
        """Let the turns that follow an unsettled one wait for it again; returns how many."""
        blocked = 0
        while broken := [
            request
            for request in self._of(run_id, State.FAILED, State.CANCELLED)
            if request.earlier is not None and request.earlier.state not in SETTLED
        ]:
            for request in broken:
                request.move(Event.BLOCK, attempts=0, code=None, message=None, settled_at=None, not_before=0.0)
            blocked += len(broken)
        return blocked

    # ── questions: retention, uploads, streams ────────────────────────────────────────────────────────────
    async def retained(self, run_id: int) -> Retained | None:
        run = self._runs.get(run_id)
        if run is None or run.provider is None:
            return None
        here = [(kind, was_there) for (kind, _), (gone, was_there, _) in self._deleted.items() if gone == run_id]
        deleted, unknown = Counter(kind for kind, _ in here), sum(not was_there for _, was_there in here)
        return _record(Retained, run, deleted=dict(deleted), unknown=unknown)

    async def provider_objects(
        self, run_id: int, kind: ObjectKind, *, ended_before: float, after: int, limit: int
    ) -> list[ProviderObject]:
        if kind is ObjectKind.CONVERSATION:
            found = [(name, 0) for _, name in sorted(self._runs[run_id].conversations.items())]
        elif kind is ObjectKind.FILE:
            found = [(file_id, 0) for file_id, user in sorted(self._uses) if user == run_id]
            found = [(file_id, 0) for file_id, _ in found if not self._is_needed(file_id, run_id)]
        else:
            found = [
                (attempt.response_id, attempt.id)
                for attempt in self._tries(run_id)
                if attempt.response_id is not None and not attempt.shares
                if attempt.id > after and attempt.ended_at is not None and attempt.ended_at <= ended_before
            ]
        left = [
            ProviderObject(kind, name, place, endpoint=self._endpoint_of(kind, name))
            for name, place in found
            if (kind, name) not in self._deleted
        ]
        return left[:limit] if kind is ObjectKind.RESPONSE else left

    def _endpoint_of(self, kind: ObjectKind, name: str) -> str | None:
        """Files are kept by endpoint; the sequences use one endpoint for all else."""
        return self._uploads[name].provider if kind is ObjectKind.FILE and name in self._uploads else None

    def _is_needed(self, file_id: str, run_id: int) -> bool:
        """Whether another run that may continue uses the file."""
        others = {user for each, user in self._uses if each == file_id and user != run_id}
        return any(self._runs[user].record.state in (RunState.ACTIVE, RunState.HALTED) for user in others)

    async def without_data(
        self, run_id: int, states: Sequence[State], code: str | None, *, flag: str | None = None
    ) -> int:
        return sum(
            request.state in states and request.row == b"" and code in (None, request.code) and request.has_flag(flag)
            for request in self._of(run_id)
        )

    async def upload(self, provider: str, sha256: bytes) -> Upload | None:
        found = [
            upload
            for upload in self._uploads.values()
            if (upload.provider, upload.sha256) == (provider, sha256)
            if (ObjectKind.FILE, upload.file_id) not in self._deleted
        ]
        return max(found, key=lambda upload: upload.uploaded_at, default=None)

    async def progress(self, attempt_id: int) -> list[ProgressEvent]:
        attempt = self._attempts.get(attempt_id)
        return [event for _, event in sorted(attempt.progress.items())] if attempt is not None else []

    async def last_progress(self, attempt_id: int) -> int | None:
        return max((event.sequence for event in await self.progress(attempt_id)), default=None)

    # ── questions: runs ───────────────────────────────────────────────────────────────────────────────────

    async def run(self, name: str) -> reads.Run | None:
        return next((run for run in await self.runs() if run.name == name), None)

    async def runs(self) -> list[reads.Run]:
        return [run.record for run in reversed(self._runs.values())]

    async def summary(self, run_id: int) -> reads.Summary:
        run, tries, requests = self._runs[run_id], self._tries(run_id), self._of(run_id)
        unknown = [attempt for attempt in tries if attempt.cost_is_unknown]
        duplicates = [attempt for attempt in tries if attempt.possible_duplicate]
        return reads.Summary(
            run=run.record,
            requests=reads.RequestCounts({state: sum(each.state is state for each in requests) for state in State}),
            skipped_rows=len(run.skipped),
            attempts=len(tries),
            reused=sum(request.answer is not None for request in requests),
            possible_duplicates=len(duplicates),
            possible_duplicates_bound=_bounds(duplicates),
            usage=_usage(tries) or Usage(),
            cost_pusd=sum(attempt.cost for attempt in tries),
            cost_unknown=len(unknown),
            cost_unknown_bound=_bounds(unknown),
            cost_estimated_pusd=_estimated(tries),
            reserved_pusd=sum(attempt.worst_case_pusd or 0 for attempt in tries if attempt.ended_at is None),
            **asdict(run.counts),
            changes=self._nights[run_id].changes if run_id in self._nights else None,
        )

    async def skipped(self, run_id: int) -> list[SkippedRow]:
        return [row for _, row in sorted(self._runs[run_id].skipped.items())]

    async def has_accepted(self, run_id: int) -> bool:
        requests = list(self._of(run_id))
        return any(request.state is State.SUCCEEDED for request in requests) or any(
            attempt.response_id or attempt.ended_at is None or attempt.possible_duplicate or attempt.charge
            for request in requests
            for attempt in request.tries
        )

    async def needed_by(self, run_id: int) -> reads.Needed:
        """Without datasets, which are not the model's."""
        waiting = [
            each.run
            for each in self._requests.values()
            if each.waits_for is not None and each.waits_for.run.id == run_id
        ]
        for attempt in self._attempts.values():
            holder = self._holder(attempt.response_id or "")
            if attempt.adopted and attempt.ended_at is None and holder is not None:
                waiting += [attempt.request.run] if holder.request.run.id == run_id else []
        names = {run.record.name for run in waiting if run.id != run_id}
        return reads.Needed(waiting_runs=tuple(sorted(names)))

    async def latest_at(self, run_id: int) -> float | None:
        return self._runs[run_id].latest_at

    async def recall(self, name: str) -> bytes | None:
        return self._memory.get(name)

    # ── questions: what can be sent ───────────────────────────────────────────────────────────────────────

    async def fresh(
        self, run_id: int, *, stage: str = MAIN_STAGE, after_id: int, limit: int
    ) -> list[reads.PendingRequest]:
        pending = [each for each in self._of(run_id, State.PENDING) if each.stage == stage]
        return [_pending(each) for each in pending if each.not_before == 0 and each.id > after_id][:limit]

    async def delayed(self, run_id: int, *, limit: int) -> list[reads.PendingRequest]:
        pending = [_pending(each) for each in self._of(run_id, State.PENDING) if each.not_before > 0]
        return sorted(pending, key=lambda each: each.not_before)[:limit]

    async def request_range(self, run_id: int) -> tuple[int, int] | None:
        ids = [request.id for request in self._of(run_id)]
        return (min(ids), max(ids)) if ids else None

    async def has_unsettled(self, run_id: int, shard: Shard) -> bool:
        return any(each.state not in SETTLED for each in self._of(run_id) if _is_in(each.id, shard))

    async def fresh_in(
        self, run_id: int, shard: Shard, *, stage: str, after_id: int, limit: int
    ) -> list[reads.PendingRequest]:
        found = await self.fresh(run_id, stage=stage, after_id=max(after_id, shard.first_id - 1), limit=limit)
        return [each for each in found if _is_in(each.id, shard)]

    async def delayed_in(self, run_id: int, shards: Sequence[Shard], *, limit: int) -> list[reads.PendingRequest]:
        found = await self.delayed(run_id, limit=len(self._requests))
        return [each for each in found if any(_is_in(each.id, shard) for shard in shards)][:limit]

    async def open_in(self, run_id: int, shard: Shard) -> list[reads.OpenAttempt]:
        return [each for each in await self.open_attempts(run_id) if _is_in(each.request_id, shard)]

    async def duplicates(self, run_id: int, fingerprints: Sequence[bytes]) -> dict[bytes, reads.Duplicate]:
        return {
            request.fingerprint: reads.Duplicate(request.id, here=True)
            for request in self._of(run_id)
            if request.fingerprint in fingerprints and request.fingerprint is not None
            if request.same_as is None and request.answer is None
        }

    async def others(self, run_id: int, since: Mapping[bytes, float]) -> dict[bytes, list[reads.OtherRequest]]:
        found: dict[bytes, list[reads.OtherRequest]] = {}
        for fingerprint, at in since.items():
            others = []
            for request in reversed(self._requests.values()):
                if request.fingerprint != fingerprint or request.same_as is not None or request.run.id == run_id:
                    continue
                shown = request.answer or request.latest
                if shown is not None and (_is_whole(request, at) or request.state in OPEN):
                    others.append(
                        _record(
                            reads.OtherRequest,
                            request,
                            request_id=request.id,
                            run_id=request.run.id,
                            run=request.run.record.name,
                            attempt_id=shown.id,
                            worst_case_pusd=shown.worst_case_pusd,
                            in_batch=shown.batch is not None and shown.response_id is None,
                        )
                    )
                if request.state is State.SUCCEEDED and others and others[-1].request_id == request.id:
                    break
            if others:
                found[fingerprint] = others
        return found

    async def waits(self, run_id: int) -> list[reads.Wait]:
        return [
            reads.Wait(
                request_id=request.id,
                other_id=other.id,
                run_id=other.run.id,
                run=other.run.record.name,
                state=other.state,
                in_batch=_is_in_batch(other.latest),
            )
            for request in self._of(run_id, State.BLOCKED)
            if (other := request.waits_for) is not None
        ]

    async def earlier_turns(self, request_id: int, *, limit: int) -> list[reads.EarlierTurn]:
        turns: list[reads.EarlierTurn] = []
        turn = self._requests[request_id].earlier
        while turn is not None and len(turns) < limit:
            text = turn.latest.output_text if turn.latest is not None else None
            turns.append(reads.EarlierTurn(turn.row, turn.where, text or ""))
            turn = turn.earlier
        return turns

    def _holder(self, response_id: str) -> _Attempt | None:
        held = (each for each in self._attempts.values() if each.response_id == response_id and not each.shares)
        return next(held, None)

    async def holder(self, response_id: str) -> int | None:
        found = self._holder(response_id)
        return found.id if found is not None else None

    async def accepted_by_endpoint(self, run_id: int) -> set[tuple[str, str | None]]:
        tries = [attempt for request in self._of(run_id) for attempt in request.tries]
        return {(each.request.stage, each.endpoint) for each in tries if each.response_id is not None}

    async def open_attempts(self, run_id: int) -> list[reads.OpenAttempt]:
        found = [
            self._open(request, attempt, repairs=request.repairs)
            for request in self._of(run_id, *OPEN)
            for attempt in request.tries[-1:]
            if attempt.batch is None or request.state is State.AWAITING_TOOLS
        ]
        return sorted(found, key=lambda open_: (open_.accepted_at is None, open_.accepted_at))

    def _open(self, request: _Request, attempt: _Attempt, *, repairs: int) -> reads.OpenAttempt:
        holder = self._holder(attempt.response_id or "") if attempt.adopted else attempt
        return _record(
            reads.OpenAttempt,
            attempt,
            attempt_id=attempt.id,
            request_id=request.id,
            repairs=repairs,
            worst_case_pusd=holder and holder.worst_case_pusd,
            **_some(request, "key", "stage", "state", "attempts", "epoch", "turn"),
        )

    # ── questions: results ────────────────────────────────────────────────────────────────────────────────

    async def results(self, run_id: int, states: Sequence[State]) -> AsyncIterator[reads.ResultRecord]:
        for request in self._of(run_id):
            if request.state in states:
                yield _result(request)

    async def stage_results(
        self, run_id: int, wanted: Mapping[str, Sequence[State]]
    ) -> AsyncIterator[reads.ResultRecord]:
        for request in sorted(self._of(run_id), key=lambda each: (each.position, len(each.key), each.key)):
            if request.state in wanted.get(request.stage, ()):
                yield _result(request)

    async def details(self, request_ids: Sequence[int], *, with_bodies: bool) -> dict[int, reads.ResultDetails]:
        found = {}
        for request_id in request_ids:
            request = self._requests[request_id]
            shown = request.answer or request.latest
            found[request_id] = reads.ResultDetails(request.row, shown.body if shown and with_bodies else None)
        return found

    async def request(self, run_id: int, key: str, *, stage: str = MAIN_STAGE) -> reads.RequestRecord | None:
        found = [each for each in self._of(run_id) if (each.key, each.stage) == (key, stage)]
        return _request(found[0]) if found else None

    async def attempts(self, request_id: int) -> list[reads.AttemptRecord]:
        request = self._requests.get(request_id)
        return [self._attempt(attempt) for attempt in request.tries] if request is not None else []

    async def attempt(self, attempt_id: int) -> reads.AttemptRecord | None:
        attempt = self._attempts.get(attempt_id)
        return None if attempt is None else self._attempt(attempt)

    async def answers(self, attempt_ids: Sequence[int]) -> dict[int, str]:
        texts = {each: self._attempts[each].output_text for each in attempt_ids if each in self._attempts}
        return {each: text for each, text in texts.items() if text is not None}

    def _attempt(self, attempt: _Attempt) -> reads.AttemptRecord:
        gone = self._deleted.get((ObjectKind.RESPONSE, attempt.response_id or ""))
        return _record(reads.AttemptRecord, attempt, deleted_at=gone and gone[2])

    async def tool_calls(self, attempt_id: int) -> list[reads.ToolCall]:
        attempt = self._attempts.get(attempt_id)
        return sorted(attempt.tool_calls.values(), key=lambda call: call.place) if attempt is not None else []

    async def body(self, attempt_id: int) -> bytes | None:
        attempt = self._attempts.get(attempt_id)
        return None if attempt is None else attempt.body

    # ── questions: money ──────────────────────────────────────────────────────────────────────────────────

    async def costs(
        self, run_id: int | None, by: Sequence[str], *, with_simulated: bool = True
    ) -> list[reads.CostRow]:
        groups: defaultdict[tuple[str, ...], list[_Attempt]] = defaultdict(list)
        for attempt in self._tries(run_id):
            if attempt.charge is not None and (with_simulated or not attempt.request.run.record.simulated):
                groups[tuple(_group(attempt, each) for each in by)].append(attempt)
        return [_cost(group, tries) for group, tries in sorted(groups.items())]

    async def spending(self, caps: reads.SharedCaps, at: float) -> reads.Spending:
        day = _day(at)
        first_of_month = _day(datetime.fromtimestamp(at, UTC).replace(day=1).timestamp())
        spent = Counter(
            {day: pusd for (day, simulated), pusd in self._removed.items() if simulated is caps.simulated}
        )
        aside: Counter[int] = Counter()
        run_pusd = 0
        for attempt in self._attempts.values():
            if attempt.charge is not None and attempt.request.run.id == caps.run_id:
                run_pusd += attempt.cost + (attempt.bound or 0)
            if attempt.request.run.record.simulated is caps.simulated:
                if attempt.charge is not None:
                    spent[_day(attempt.charged_at)] += attempt.cost + (attempt.bound or 0)
                if attempt.ended_at is None:
                    aside[attempt.request.run.id] += attempt.worst_case_pusd or 0
        own_pusd = aside.pop(caps.run_id, 0)
        return reads.Spending(
            day_pusd=spent[day],
            month_pusd=sum(pusd for each, pusd in spent.items() if each >= first_of_month),
            own_pusd=own_pusd,
            elsewhere_pusd=aside.total(),
            holders=tuple(sorted(run_id for run_id, pusd in aside.items() if pusd)),
            run_pusd=run_pusd if caps.run_pusd is not None else 0,
            day=day,
            first_of_month=first_of_month,
        )

    async def uncosted(self, run_id: int, *, limit: int) -> list[reads.Uncosted]:
        found = [
            _record(reads.Uncosted, attempt, attempt_id=attempt.id, upper_bound_pusd=attempt.bound)
            for request in reversed(self._of(run_id))
            for attempt in reversed(request.tries)
            if attempt.cost_is_unknown and attempt.usage is None and attempt.response_id is not None
            if attempt.code in ("queued_timeout", "run_timeout", "submit_in_doubt")
        ]
        return found[:limit]

    async def past_use(self, run_id: int, *, stage: str = MAIN_STAGE, most: int) -> PastUse:
        first = [each for each in self._of(run_id)[:most] if each.stage == stage]
        return sum((_use(request) for request in first if request.state in SETTLED), PastUse())

    # ── which requests and attempts ───────────────────────────────────────────────────────────────────────

    def _of(self, run_id: int, *states: State) -> list[_Request]:
        return [
            request
            for request in self._requests.values()
            if request.run.id == run_id and (not states or request.state in states)
        ]

    def _tries(self, run_id: int | None) -> list[_Attempt]:
        return [attempt for attempt in self._attempts.values() if run_id is None or attempt.request.run.id == run_id]


def _is_in(request_id: int, shard: Shard) -> bool:
    return shard.first_id <= request_id <= shard.last_id
