"""What a store must do: ``Backend`` is one database, ``Store`` writes to it, ``Reader`` reads it.

Every verb that moves a request is a compare-and-set on its state, takes the state that follows from
``core.states.TRANSITIONS``, and returns whether it moved the request. A verb returns only when what it wrote is
durable. Times are Unix seconds, money is picodollars. Ids of requests rise in input order; ids of attempts are
opaque: only the driver that made one may compute with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import MAIN_STAGE, Charge, NewRequest, PastUse, PlanMark, SkippedRow
from orchestrator.core.money import Picodollars
from orchestrator.core.stage_rows import NewGroup
from orchestrator.core.states import RunState, State
from orchestrator.stores.datasets import DatasetReader, DatasetStore
from orchestrator.stores.flags import FlagStore
from orchestrator.stores.notices import NewNotice, NoticeStore
from orchestrator.stores.pipeline_rows import StageReader, StageStore
from orchestrator.stores.provider_batches import ProviderBatchReader, ProviderBatchStore
from orchestrator.stores.pulses import PulseStore
from orchestrator.stores.reads import (
    AttemptRecord,
    CostRow,
    Dependent,
    Duplicate,
    EarlierTurn,
    Needed,
    OpenAttempt,
    OtherRequest,
    PendingRequest,
    RequestRecord,
    ResultDetails,
    ResultRecord,
    Run,
    SharedCaps,
    Spending,
    Summary,
    ToolCall,
    Uncosted,
    Wait,
)
from orchestrator.stores.retained import RetentionReader, RetentionStore
from orchestrator.stores.row_pages import PageReader
from orchestrator.stores.shards import ShardReader
from orchestrator.stores.stream_events import StreamEventReader, StreamEventStore
from orchestrator.stores.tables import Tables
from orchestrator.stores.uploaded_files import UploadReader, UploadStore
from orchestrator.stores.writes import Acceptance, Adoption, Claim, Counts, Ending, Leaving, NewRun, Release, Requeue

__all__ = [
    "DEFAULT_DATABASE",
    "Advice",
    "Backend",
    "CostReader",
    "DuplicateReader",
    "HistoryReader",
    "LearnedReader",
    "PendingReader",
    "Reader",
    "RecoveryReader",
    "ResultReader",
    "RunReader",
    "Store",
    "ViewReader",
]

# The database unless the user names another one: a file in the working directory.
DEFAULT_DATABASE = "orchestrator.db"


@fast_dataclass(kw_only=False)
class Advice:
    """One fact about a database and, if something should be done, what."""

    subject: str
    detail: str
    hint: str | None = None


class Backend(Protocol):
    """One database of runs. Making a backend opens nothing; ``stores.backends`` chooses it by the address."""

    @property
    def address(self) -> str:
        """The database as the user named it, without a password."""
        ...

    @property
    def local_path(self) -> Path:
        """The database's file, or a name on this machine if it is on a server; beside it other state may be kept."""
        ...

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Open the database for writing; creates it if absent. Raises ``StoreError`` if it cannot be used."""
        ...

    def open_reader(self) -> AbstractAsyncContextManager[Reader]:
        """Open an existing database for reading. Raises ``StoreError`` if it is absent or cannot be read."""
        ...

    def open_view(self) -> AbstractAsyncContextManager[ViewReader]:
        """Open an existing database for the web view; raises as ``open_reader``."""
        ...

    async def exists(self) -> bool:
        """Whether the database exists; it may still be unusable."""
        ...

    async def check(self) -> None:
        """Open the database for writing and leave no trace; raises ``StoreError`` if it cannot be used."""
        ...

    def open_tables(self, *, writes: bool) -> AbstractContextManager[Tables]:
        """All tables of an existing database in one transaction, for a copy of it."""
        ...

    async def advice(self) -> Sequence[Advice]:
        """What an operator should know of a database that can be used, such as a setting that risks commits."""
        ...

    def lock(self, run_id: int, name: str) -> AbstractContextManager[object]:
        """Hold a run against all other processes, and against other callers in this one.

        Raises ``RunBusy`` if the run or a shard of it is locked, ``StoreError`` if it cannot be. The lock ends with
        its process.
        """
        ...

    def lock_shard(self, run_id: int, number: int, name: str) -> AbstractContextManager[object]:
        """Hold one shard of a run, as ``lock`` holds a run; several processes hold several shards.

        Raises ``RunBusy`` if it is locked, ``UsageError`` if the database has no shards.
        """
        ...

    def lock_shards(self, run_id: int, name: str) -> AbstractContextManager[object]:
        """Hold all shards of a run: for the process that works on it alone. Raises ``RunBusy``."""
        ...

    def lock_dataset(self, dataset_id: int, name: str) -> AbstractContextManager[object]:
        """Hold a dataset against all other runs that would add to it; raises as ``lock``."""
        ...

    def is_locked(self, run_id: int) -> bool:
        """Whether a process holds the run's lock now."""
        ...


class Store(
    RetentionStore,
    UploadStore,
    StreamEventStore,
    DatasetStore,
    NoticeStore,
    StageStore,
    ProviderBatchStore,
    FlagStore,
    PulseStore,
    Protocol,
):
    """The one writer of a database."""

    def check_in_place(self) -> None:
        """Raise ``StoreError`` if the files were moved, deleted or replaced, so that no other process finds them."""
        ...

    async def create_run(self, run: NewRun) -> Run:
        """Create an active run; raises ``RunBusy`` if another process has just created one with the same name."""
        ...

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
        """Add planned rows and move the mark, in one transaction; returns the rows whose key another row has.

        Each row begins in ``core.states.first_state``. With ``skip_taken`` rows with a taken key are recorded as
        skipped and the others are added. Without it, one such row keeps the whole batch out and the mark where it
        was, so that a later process finds it again. ``groups`` wait for some of the rows. Adding a
        row twice (same key, same position) changes nothing.
        """
        ...

    def claim(self, claim: Claim) -> Awaitable[int | Spending | Duplicate | list[OtherRequest] | None]:
        """``CLAIM`` a request, with a new attempt; returns the attempt's id, or None if the request was not pending.

        If other runs ask the same and the claim wants to know of them, nothing is written and they are returned: see
        ``DuplicateReader.others``.

        If the claim ``asks_once`` and an earlier request of its run asks the same, that one is returned, and nothing
        is written.

        If the claim's worst case could exceed its caps, nothing is written and what is spent is returned. The check
        of the caps and the claim are atomic: other processes may claim under the same caps.
        """
        ...

    def accept(self, acceptance: Acceptance) -> Awaitable[bool]:
        """``ACCEPT`` a request that is in the acceptance's state, with the response id.

        A response that an earlier attempt of the same request holds already (a server that honors idempotency keys
        repeats its answer) is marked as shared and is not charged again. One that another request holds answers
        that one: nothing is written and False is returned, unless the acceptance says that it is ``adopted``.
        Raises ``IllegalTransition`` if the table has no entry for ``from_state``.
        """
        ...

    async def release(self, release: Release) -> bool:
        """``RELEASE`` a request: the attempt is removed as if it had not been made."""
        ...

    def end(self, ending: Ending) -> Awaitable[list[Dependent] | None]:
        """End an attempt and move its request, charge and result included, in one transaction.

        Returns the blocked requests that moved with it: duplicates share its answer or its failure; the next turn of
        its chain is unblocked if it succeeded, else all later turns fail with ``chain_broken``. Returns None, and
        writes nothing, if the request is no longer in ``from_state``. Raises ``IllegalTransition`` if the table has
        no entry for ``from_state`` and ``event``.
        """
        ...

    async def leave(self, leaving: Leaving) -> list[Dependent] | None:
        """Move a request on from ``AWAITING_TOOLS``; returns as ``end`` does."""
        ...

    async def add_tool_call(self, call: ToolCall) -> None:
        """Record the result of a tool call; a call that is recorded already keeps its first result."""
        ...

    async def join(
        self, request_id: int, original: Duplicate, fingerprint: bytes, at: float
    ) -> list[Dependent] | None:
        """Let a pending request share the outcome of an earlier one; None if the request was not pending.

        ``JOIN`` blocks it until the original ends; if that has ended, the request ends the same way at once, and its
        dependents with it: they are returned after it. Of a request of another run only the answer is shared: nothing
        is returned if that ended without one. What waits for another run is moved by ``end_wait`` alone.
        """
        ...

    async def adopt(self, given: Adoption) -> OpenAttempt | None:
        """Let a pending request take over the open response of another run's; None if either has moved meanwhile.

        The other request is blocked, and waits for this one. Its attempt is charged for the response when that ends.
        """
        ...

    async def end_wait(self, request_id: int, at: float, *, is_over: bool) -> list[Dependent] | None:
        """Move a request that waits for one of another run, if it need not wait longer, and its dependents with it.

        It takes the answer of the other one, and the failure too if that one took its response over; else it is
        unblocked. ``is_over`` says that no process works on the other one: it is not waited for longer, and gives
        back what it took over. Returns None, and writes nothing, if the request does not wait, or must wait on.
        """
        ...

    async def link_chains(self, run_id: int, at: float) -> int:
        """Put the turns of each chain in order and ``UNBLOCK`` the first ones; returns how many. May be repeated."""
        ...

    async def keep_conversation(
        self, run_id: int, chain: str, conversation_id: str, endpoint: str | None = None
    ) -> None:
        """Record the provider's conversation object of a chain, and the endpoint that has it."""
        ...

    async def name_response(self, attempt_id: int, response_id: str) -> bool:
        """Give an attempt that has ended in doubt the id of its response, which was found later.

        Returns False, and writes nothing, if the attempt is open or has an id, or another one has this response.
        """
        ...

    async def late_charge(self, attempt_id: int, charge: Charge, status: str, body: bytes | None) -> bool:
        """Replace an attempt's *unknown* or missing charge by one that became known later.

        Returns False, and writes nothing, if the cost was known already. The charge keeps its first time.
        """
        ...

    async def fail_pending(self, request_id: int, code: str, message: str, at: float) -> list[Dependent] | None:
        """``FAIL`` a pending request without an attempt: it can never be sent. Returns as ``end`` does."""
        ...

    async def cancel_unsent(self, request_id: int, at: float) -> list[Dependent] | None:
        """``CANCEL`` a request that is pending or blocked; returns as ``end`` does, None if it is neither."""
        ...

    async def note_status(self, attempt_id: int, status: str) -> None:
        """Record the provider's latest status of an open response; never waits, and may be lost in a crash.

        It is in the database at most a second later, and with the next verb that is waited for.
        """
        ...

    async def request_cancel(self, run_id: int, at: float) -> None:
        """Flag the run as cancelled by the user, and ``CANCEL`` each of its requests that is pending or blocked.

        Rows added later are not cancelled by it: the planner checks the flag, and may call this again.
        """
        ...

    async def requeue(self, requeue: Requeue) -> int:
        """Put settled requests of a run back into the queue and resolve those in doubt; returns how many moved."""
        ...

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
        """Set a run's state, and when the cause of a halt is over.

        Notices of it are added to the outbox in the same transaction.

        A notice whose receiver had one of the same cause within a day is left out.
        """
        ...

    async def adapt_run(
        self, run_id: int, *, budget_pusd: Picodollars | None, deadline_at: float | None, input_identity: str
    ) -> None:
        """Update what may change when a run is resumed."""
        ...

    async def keep_spec(self, run_id: int, spec_json: str, *, reopen_plan: bool) -> None:
        """Replace the stored job of a run; with ``reopen_plan`` the run is active, and reads on where it stopped."""
        ...

    async def replace_run(self, run_id: int, run: NewRun) -> bool:
        """Let a run begin again as another one, with its old name and uid, if nothing of it was ever accepted.

        Its rows are removed and read again. Returns False, and changes nothing, if a response of it is known or may
        exist, or if a request has an answer.
        """
        ...

    async def remove_run(self, run_id: int, *, names: Sequence[str] = ()) -> None:
        """Remove a run with all that belongs to it, and the values remembered under ``names``; may be repeated.

        Requests of other runs keep the answers that they share with it, and budgets count what it spent.
        """
        ...

    async def add_counts(self, run_id: int, counts: Counts) -> None:
        """Add to a run's counters; never waits, as ``note_status``."""
        ...

    async def remember(self, name: str, value: bytes) -> None:
        """Keep a small learned value (a latency table, a discovered limit) under a name."""
        ...


class RunReader(Protocol):
    """Runs and their counts: what chooses, resumes and shows a run."""

    async def run(self, name: str) -> Run | None: ...

    async def runs(self) -> list[Run]:
        """Every run, newest first."""
        ...

    async def summary(self, run_id: int) -> Summary: ...

    async def has_accepted(self, run_id: int) -> bool:
        """Whether a response of a run is known or may exist, or a request of it has an answer."""
        ...

    async def needed_by(self, run_id: int) -> Needed:
        """What would lose something if a run were removed."""
        ...

    async def latest_at(self, run_id: int) -> float | None:
        """When something was last sent, accepted or ended in a run; None if nothing was."""
        ...


class PendingReader(Protocol):
    """What the sender reads: the requests that can be sent."""

    async def fresh(self, run_id: int, *, stage: str = MAIN_STAGE, after_id: int, limit: int) -> list[PendingRequest]:
        """Pending requests of a stage that were never put off (``not_before`` 0), by id, from after ``after_id``."""
        ...

    async def delayed(self, run_id: int, *, limit: int) -> list[PendingRequest]:
        """Pending requests that wait for a time (``not_before`` over 0), soonest first."""
        ...

    async def earlier_turns(self, request_id: int, *, limit: int) -> list[EarlierTurn]:
        """The turns before a request in its chain, the latest first."""
        ...


class DuplicateReader(Protocol):
    """What the deduplicator reads."""

    async def duplicates(self, run_id: int, fingerprints: Sequence[bytes]) -> dict[bytes, Duplicate]:
        """The latest request of this run that asks the same, in any state, for each fingerprint that has one."""
        ...

    async def others(self, run_id: int, since: Mapping[bytes, float]) -> dict[bytes, list[OtherRequest]]:
        """Requests of other runs by fingerprint: those in flight, and the latest with a whole answer.

        ``since`` is the oldest time at which an answer was given or used, for each fingerprint.
        """
        ...

    async def waits(self, run_id: int) -> list[Wait]:
        """The requests of a run that wait for one of another run."""
        ...


class RecoveryReader(Protocol):
    """What takes up the requests that an earlier process left open."""

    async def open_attempts(self, run_id: int) -> list[OpenAttempt]:
        """The latest attempt of every open request, the one accepted longest ago first, those never accepted last."""
        ...

    async def accepted_by_endpoint(self, run_id: int) -> set[tuple[str, str | None]]:
        """The stages of a run of which requests were accepted, each with the endpoint that did."""
        ...

    async def holder(self, response_id: str) -> int | None:
        """The attempt that holds a response and is charged for it; None if no attempt of any run does."""
        ...

    async def tool_calls(self, attempt_id: int) -> list[ToolCall]:
        """The recorded tool calls of one response, in the order of the calls."""
        ...

    async def body(self, attempt_id: int) -> bytes | None:
        """The response of an attempt as it was received."""
        ...


class ResultReader(Protocol):
    """What exports and reports read."""

    def results(self, run_id: int, states: Sequence[State]) -> AsyncIterator[ResultRecord]:
        """Requests in input order, in constant memory; each is read when its turn comes, not in one snapshot."""
        ...

    def stage_results(self, run_id: int, wanted: Mapping[str, Sequence[State]]) -> AsyncIterator[ResultRecord]:
        """Requests of these stages in these states, in the order of the rows of the input that they were made of."""
        ...

    async def details(self, request_ids: Sequence[int], *, with_bodies: bool) -> dict[int, ResultDetails]:
        """The rows of requests, and the bodies of the responses that answered them.

        Of very long ones only those of the first requests, so that memory stays small; at least one.
        """
        ...

    async def skipped(self, run_id: int) -> list[SkippedRow]: ...

    async def answers(self, attempt_ids: Sequence[int]) -> dict[int, str]:
        """The texts of the answers of attempts, without those that have none."""
        ...


class HistoryReader(Protocol):
    """What ``show`` reads of one request."""

    async def request(self, run_id: int, key: str, *, stage: str = MAIN_STAGE) -> RequestRecord | None: ...

    async def attempts(self, request_id: int) -> list[AttemptRecord]: ...

    async def attempt(self, attempt_id: int) -> AttemptRecord | None: ...


class CostReader(Protocol):
    """What budgets, cost tables and estimates read."""

    async def costs(self, run_id: int | None, by: Sequence[str], *, with_simulated: bool = True) -> list[CostRow]:
        """Charges summed by groupings that ``stores.cost_groupings`` accepts.

        ``with_simulated`` includes the play money of the sandbox.
        """
        ...

    async def spending(self, caps: SharedCaps, at: float) -> Spending:
        """What all runs that spend the same money have spent in the day and the month of ``at``, and set aside."""
        ...

    async def uncosted(self, run_id: int, *, limit: int) -> list[Uncosted]:
        """The latest attempts of a run that were given up and whose cost is not known."""
        ...

    async def past_use(self, run_id: int, *, stage: str = MAIN_STAGE, most: int) -> PastUse:
        """What those of a stage took among the settled ones of a run's first ``most`` requests."""
        ...


class LearnedReader(Protocol):
    """What earlier runs learned about the provider."""

    async def recall(self, name: str) -> bytes | None: ...


class Reader(
    RunReader,
    PendingReader,
    DuplicateReader,
    RecoveryReader,
    ResultReader,
    HistoryReader,
    CostReader,
    LearnedReader,
    RetentionReader,
    UploadReader,
    StageReader,
    ProviderBatchReader,
    StreamEventReader,
    DatasetReader,
    ShardReader,
    Protocol,
):
    """All read-only views of a database; never blocks the writer."""


class ViewReader(Reader, PageReader, Protocol):
    """All that the web view reads."""
