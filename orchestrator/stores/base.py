"""What a store must do: the write verbs of ``Store`` and the read-only ``Reader``.

Every verb that moves a request is a compare-and-set on its state and returns whether it was the one that moved
it. A verb returns only when what it wrote is durable. Times are Unix seconds, money is picodollars.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from orchestrator.core.model import Charge, NewRequest, PastUse, PlanMark, SkippedRow
from orchestrator.core.money import Picodollars
from orchestrator.core.states import RunState, State
from orchestrator.stores.provider_copies import RetentionReader, RetentionStore
from orchestrator.stores.reads import (
    AttemptRecord,
    CostRow,
    Dependent,
    Duplicate,
    EarlierTurn,
    OpenAttempt,
    PendingRequest,
    RequestRecord,
    ResultRecord,
    Run,
    SharedCaps,
    Spending,
    Summary,
    ToolCall,
    Uncosted,
)
from orchestrator.stores.writes import Acceptance, Claim, Counts, Ending, Leaving, NewRun, Release

__all__ = [
    "DEFAULT_DATABASE",
    "Reader",
    "Store",
]

# Where runs are kept unless somebody says otherwise: in the working directory.
DEFAULT_DATABASE = "orchestrator.db"


class Store(RetentionStore, Protocol):
    """The one writer of a database."""

    async def create_run(self, run: NewRun) -> Run:
        """Create an active run; raises ``RunBusy`` where another process was just faster with the same name."""
        ...

    async def add_rows(
        self,
        run_id: int,
        rows: Sequence[NewRequest],
        skipped: Sequence[SkippedRow],
        mark: PlanMark,
        *,
        skip_taken: bool = False,
    ) -> list[NewRequest]:
        """Add planned rows and move the mark, in one transaction; returns those whose key another row has.

        With ``skip_taken`` such rows are recorded as skipped and the others added. Without it, one of them keeps the
        whole batch out and the mark where it was, so that a later process comes upon it again. Rows that are there
        from an earlier call are no such rows: adding twice changes nothing.
        """
        ...

    def claim(self, claim: Claim) -> Awaitable[int | Spending | None]:
        """Pending → submitting, with a new attempt; the attempt's id, or None where somebody else moved it.

        Where the claim's worst case could make its caps be passed, nothing is done, and what is spent is returned.
        The look at the caps and the claim are one: other processes may be claiming under the same caps.
        """
        ...

    def accept(self, acceptance: Acceptance) -> Awaitable[bool]:
        """Submitting (or in doubt) → submitted, with the response id.

        A response that an earlier attempt holds already (some gateways answer from a cache) is noted as shared, and
        is not charged again.
        """
        ...

    async def release(self, release: Release) -> bool:
        """Submitting → pending; the attempt is removed as if it had not been."""
        ...

    def end(self, ending: Ending) -> Awaitable[list[Dependent] | None]:
        """End an attempt and move its request, charge and result included, in one transaction.

        Returns the blocked requests that moved with it: an equal one shares its answer or its failure, the next turn
        of its chain may go, and all later turns fail with ``chain_broken`` where it failed. None, and nothing
        written, where the request is no longer in ``from_state``.
        """
        ...

    async def leave(self, leaving: Leaving) -> list[Dependent] | None:
        """Move a request on from ``ACTING``; returns as ``end`` does."""
        ...

    async def add_tool_call(self, call: ToolCall) -> None:
        """Keep what a tool said; a call that is there already keeps its first answer."""
        ...

    async def join(self, request_id: int, equal: Duplicate, fingerprint: bytes, at: float) -> Dependent | None:
        """Let a pending request share the fate of an equal one; where it moved to, None where it had moved.

        It is blocked until that one ends; where that has ended, it ends at once the same way.
        """
        ...

    async def link_chains(self, run_id: int, at: float) -> int:
        """Put the turns of each chain in order and unblock the first ones; returns how many. May be repeated."""
        ...

    async def keep_conversation(self, run_id: int, chain: str, conversation_id: str) -> None:
        """Note the provider's conversation object of a chain."""
        ...

    async def late_charge(self, attempt_id: int, charge: Charge, status: str, body: bytes | None) -> bool:
        """Put what a late look found in the place of an attempt's *unknown* charge, or of none.

        False, and nothing written, where the cost was known already. The charge keeps the time of the first one.
        """
        ...

    async def fail_pending(self, request_id: int, code: str, message: str, at: float) -> list[Dependent] | None:
        """Pending → failed without an attempt: it can never be sent. Returns as ``end`` does."""
        ...

    async def note_status(self, attempt_id: int, status: str) -> None:
        """Keep the provider's latest word on an open response; never waits, and may be lost in a crash.

        It is in the database a second later at most, and with the next verb that is waited for.
        """
        ...

    async def request_cancel(self, run_id: int, at: float) -> None:
        """Flag the run as to be cancelled, and cancel every pending or blocked request of it.

        Rows added later are not cancelled by it: whoever plans looks at the flag, and may call this again.
        """
        ...

    async def requeue(
        self, run_id: int, *, states: Sequence[State], code: str | None, resolve_in_doubt: str | None, at: float
    ) -> int:
        """Failed or cancelled → pending for ``retry``, attempts anew, history kept. Returns how many moved.

        ``code`` narrows it to requests that ended with it. ``resolve_in_doubt`` is ``"resend"`` (→ pending, and
        the lost attempt becomes a possible duplicate), ``"fail"`` (→ failed) or None (held requests are left alone);
        either way the lost attempt's cost is unknown, with its worst case as the upper bound. The run becomes active
        again where anything moved. What succeeded is never touched: asking for it raises ``UsageError``.
        """
        ...

    async def set_run_state(self, run_id: int, state: RunState, reason: str | None, at: float) -> None: ...

    async def adapt_run(
        self, run_id: int, *, budget_pusd: Picodollars | None, deadline_at: float | None, input_identity: str
    ) -> None:
        """Take over what may change when a run is resumed."""
        ...

    async def add_counts(self, run_id: int, counts: Counts) -> None:
        """Add to a run's counters; never waits, as ``note_status``."""
        ...

    async def remember(self, name: str, value: bytes) -> None:
        """Keep a small learnt value (a latency table, a discovered limit) under a name."""
        ...


class Reader(RetentionReader, Protocol):
    """Read-only views of a database; never blocks the writer."""

    async def run(self, name: str) -> Run | None: ...

    async def runs(self) -> list[Run]:
        """Every run, newest first."""
        ...

    async def summary(self, run_id: int) -> Summary: ...

    async def fresh(self, run_id: int, *, after_id: int, limit: int) -> list[PendingRequest]:
        """Pending requests that were never put off (``not_before`` 0), by id, from after ``after_id``."""
        ...

    async def delayed(self, run_id: int, *, limit: int) -> list[PendingRequest]:
        """Pending requests that wait for a moment (``not_before`` over 0), soonest first."""
        ...

    async def pending(self, request_id: int) -> PendingRequest | None: ...

    async def equals(
        self, run_id: int, fingerprints: Sequence[bytes], *, here: bool, since: float
    ) -> dict[bytes, Duplicate]:
        """Earlier requests that ask the same: of this run whatever became of them, of others answered ones.

        ``here`` says whether those of this run are wanted; ``since`` is how old an answer of another run may be, as a
        moment; infinity for none.
        """
        ...

    async def earlier_turns(self, request_id: int, *, limit: int) -> list[EarlierTurn]:
        """The turns before a request in its chain, the latest first."""
        ...

    async def tool_calls(self, attempt_id: int) -> list[ToolCall]:
        """What tools said to the calls of one response, in the order of the calls."""
        ...

    async def body(self, attempt_id: int) -> bytes | None:
        """The response of an attempt as it was received."""
        ...

    async def open_attempts(self, run_id: int) -> list[OpenAttempt]:
        """The latest attempt of every open request, the one accepted longest ago first, those never accepted last."""
        ...

    async def open_runs(self) -> list[Run]:
        """Runs that can go on (active or halted), newest first."""
        ...

    async def latest_moment(self, run_id: int) -> float | None:
        """When something was last sent, accepted or ended in a run; None where nothing was."""
        ...

    def results(self, run_id: int, states: Sequence[State]) -> AsyncIterator[ResultRecord]:
        """Requests in input order, in constant memory; each is read when its turn comes, not at one moment."""
        ...

    async def request(self, run_id: int, key: str, *, stage: str = "main") -> RequestRecord | None: ...

    async def attempts(self, request_id: int) -> list[AttemptRecord]: ...

    async def attempt(self, attempt_id: int) -> AttemptRecord | None: ...

    async def costs(self, run_id: int | None, by: Sequence[str], *, with_simulated: bool = True) -> list[CostRow]:
        """Charges summed by any of ``run``, ``model``, ``tier``, ``day``, ``stage``, ``state``, ``metadata.FIELD``.

        ``with_simulated`` counts the play money of rehearsals, too.
        """
        ...

    async def spending(self, caps: SharedCaps, at: float) -> Spending:
        """What all runs that spend the same money have spent in the day and the month of ``at``, and set aside."""
        ...

    async def uncosted(self, run_id: int, *, limit: int) -> list[Uncosted]:
        """The latest attempts of a run that were given up, and whose cost is not known."""
        ...

    async def past_use(self, run_id: int, *, most: int) -> PastUse:
        """What the settled ones of a run's first ``most`` requests took."""
        ...

    async def skipped(self, run_id: int) -> list[SkippedRow]: ...

    async def recall(self, name: str) -> bytes | None: ...
