"""What a store must do: the write verbs of ``Store`` and the read-only ``Reader``.

Every verb that moves a request is a compare-and-set on its state and returns whether it was the one that moved
it. A verb returns only when what it wrote is durable. Times are Unix seconds, money is picodollars.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from orchestrator.core.lifecycle import OPEN, RunState, State
from orchestrator.core.model import Charge, NewRequest, PastUse, PlanMark, SkippedRow, Usage
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.stores.keeping import Keeper, Kept

__all__ = [
    "DEFAULT_DATABASE",
    "Acceptance",
    "AttemptRecord",
    "Claim",
    "Continuation",
    "CostRow",
    "Counts",
    "EarlierTurn",
    "Ending",
    "Equal",
    "Follower",
    "Leaving",
    "NewRun",
    "OpenAttempt",
    "PendingRequest",
    "Reader",
    "Release",
    "RequestCounts",
    "RequestRecord",
    "ResultRecord",
    "Run",
    "SharedCaps",
    "Spending",
    "Store",
    "Summary",
    "ToolCall",
    "Uncosted",
    "Wasted",
]

# Where runs are kept unless somebody says otherwise: in the working directory.
DEFAULT_DATABASE = "orchestrator.db"

# ── What goes in ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be created. ``spec_json`` is the whole job as loaded, with file names but without secrets."""

    name: str
    uid: str
    job: str
    spec_json: str
    fingerprint: str
    input_identity: str
    budget_pusd: Picodollars | None
    deadline_at: float | None
    created_at: float
    # At the embedded sandbox, whose money is play money.
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCaps:
    """Hard caps over all runs of a database that spend the same money as this one; None is no cap.

    Days and months are those of UTC.
    """

    run_id: int
    simulated: bool
    day_pusd: Picodollars | None
    month_pusd: Picodollars | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What runs that spend the same money were charged, unknown costs at the most they can be, and have set aside.

    ``own_pusd`` is set aside by the run that asks, ``elsewhere_pusd`` by others; ``holders`` are these others.
    """

    day_pusd: Picodollars
    month_pusd: Picodollars
    own_pusd: Picodollars
    elsewhere_pusd: Picodollars
    holders: tuple[int, ...] = ()
    # The day, and the first day of the month, counted since 1970-01-01.
    day: int = field(default=0, compare=False)
    first_of_month: int = field(default=0, compare=False)

    def under(self, caps: SharedCaps) -> list[tuple[str, Picodollars, Picodollars, int]]:
        """The caps there are: the scope of each, its limit, what is spent of it, and a number for the period."""
        both = (
            ("day", caps.day_pusd, self.day_pusd, self.day),
            ("month", caps.month_pusd, self.month_pusd, self.first_of_month),
        )
        return [(scope, limit, spent, period) for scope, limit, spent, period in both if limit is not None]

    def has_room(self, caps: SharedCaps, amount: Picodollars) -> bool:
        """Whether so much more can be set aside without a cap ever being passed."""
        aside = self.own_pusd + self.elsewhere_pusd + amount
        return all(spent + aside <= limit for _, limit, spent, _ in self.under(caps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The intent to send one request, on disk before the POST.

    ``model``, ``service_tier`` and ``window`` (``background_options.completion_window``) are what is asked for; the
    ending replaces the first two by what the response says.
    """

    request_id: int
    number: int
    idempotency_key: str
    at: float
    model: str
    service_tier: str | None = None
    window: str | None = None
    # The most this attempt can cost; None where no price is known.
    worst_case_pusd: Picodollars | None
    # The claim is refused where it could make these be passed.
    caps: SharedCaps | None = None
    # JSON: the user's own metadata.
    metadata: str | None = None
    # Equal for requests that ask the same; None where that is of no interest.
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The provider created a response: its id, on disk before anything else is done with it."""

    request_id: int
    attempt_id: int
    response_id: str
    status: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A claimed request goes back to the queue and the attempt is undone: nothing was created.

    ``rate_limited`` counts it as a bounce off the provider's limit.
    """

    request_id: int
    attempt_id: int
    not_before: float
    rate_limited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What the next turn of a request is made of.

    ``fields`` is JSON: what it replaces of the create call. ``context_tokens`` are those of all that went before,
    which the model reads again.
    """

    fields: bytes
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one attempt ended, with everything that belongs into the same transaction.

    ``to`` is the state the request moves to: a settled one, or ``PENDING`` (with ``not_before``) to try again, or
    ``IN_DOUBT``. ``charge`` is given where the attempt has a response id; without one, only a charge of unknown
    cost is taken (the reply was lost, and something may have been spent). ``renew_idempotency`` says that a response
    *with an id* has ended, so that the next create is a new wish and gets a new key. ``count_attempt`` is False
    where the attempt must not count against ``retry.attempts`` although it stays on record. An attempt that ends
    ``IN_DOUBT`` is still open: it ends, and counts, when the doubt is resolved. A ``not_before`` in the past means at
    once.
    """

    request_id: int
    attempt_id: int
    from_state: State
    to: State
    at: float
    code: str | None = None
    message: str | None = None
    http_status: int | None = None
    status: str | None = None
    model: str | None = None
    service_tier: str | None = None
    completed_at: float | None = None
    output_text: str | None = None
    body: bytes | None = None
    charge: Charge | None = None
    not_before: float = 0.0
    renew_idempotency: bool = False
    count_attempt: bool = True
    # A response may exist that nobody can name, and the request is sent again: counted as a possible duplicate.
    possible_duplicate: bool = False
    # Replaces the job's max_output_tokens from the next attempt on (on_incomplete: raise_max_output_tokens_to).
    max_output_tokens: int | None = None
    # With ``PENDING``: the request goes on from this response, in a turn of its own with attempts of its own.
    continuation: Continuation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a function tool said to one call of a response. ``arguments`` is JSON as the model wrote it."""

    attempt_id: int
    call_id: str
    # Its place among the calls of the response.
    place: int
    name: str
    arguments: str
    output: str
    failed: bool
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """How a request leaves ``ACTING``: to ``PENDING`` with its next turn, or failed or cancelled."""

    request_id: int
    attempt_id: int
    to: State
    at: float
    code: str | None = None
    message: str | None = None
    continuation: Continuation | None = None


@dataclass(frozen=True, slots=True)
class Follower:
    """A blocked request that was moved along with the one that it waited for."""

    key: str
    to: State


@dataclass(frozen=True, slots=True)
class Equal:
    """An earlier request that asks the same; ``here`` says that it is of the same run."""

    request_id: int
    here: bool


@dataclass(frozen=True, slots=True)
class EarlierTurn:
    """A turn that went before in a chain, as far as its successors need it. ``row`` is JSON."""

    row: bytes
    where: str
    output_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Additions to a run's counters that belong to no single request."""

    polls: int = 0
    rate_limited: int = 0
    elapsed_s: float = 0.0


# ── What comes out ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a job. ``cancel_requested`` asks whoever works on it to cancel what is open."""

    id: int
    name: str
    uid: str
    job: str
    spec_json: str
    fingerprint: str
    input_identity: str
    state: RunState
    reason: str | None
    budget_pusd: Picodollars | None
    deadline_at: float | None
    created_at: float
    ended_at: float | None
    cancel_requested: bool
    plan: PlanMark
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRequest:
    """A request that waits to be sent. ``attempts`` counts those that were spent; ``number`` is the last one's.

    ``epoch`` goes into the idempotency key: it rises only when a response with an id has ended.
    """

    id: int
    key: str
    stage: str
    where: str
    attempts: int
    number: int
    epoch: int
    not_before: float
    max_output_tokens: int | None
    row: bytes
    # How often it went on from a response of its own (of these, to have an answer mended), and what the turn to be
    # sent is made of.
    turn: int = 0
    repairs: int = 0
    continuation: Continuation | None = None
    # The chain that it is a turn of, and the turn before it: its request, its response, and the tokens of that.
    chain: str | None = None
    follows: int | None = None
    earlier_response_id: str | None = None
    earlier_tokens: int = 0
    # The provider's conversation object of the chain, once there is one.
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAttempt:
    """The latest attempt of a request that is submitting, submitted, acting or in doubt."""

    attempt_id: int
    request_id: int
    key: str
    state: State
    number: int
    attempts: int
    epoch: int
    turn: int
    repairs: int
    response_id: str | None
    status: str | None
    model: str
    service_tier: str | None
    window: str | None
    sent_at: float
    accepted_at: float | None
    worst_case_pusd: Picodollars | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncosted:
    """An attempt that was given up, and whose cost is not known."""

    attempt_id: int
    response_id: str
    model: str
    service_tier: str | None
    window: str | None
    sent_at: float
    upper_bound_pusd: Picodollars | None


class RequestCounts(dict[State, int]):
    """How many requests are in each state: a mapping, and by name."""

    @property
    def total(self) -> int:
        return sum(self.values())

    @property
    def pending(self) -> int:
        return self.get(State.PENDING, 0)

    @property
    def open(self) -> int:
        """Sent, or being sent, or in doubt."""
        return sum(self.get(state, 0) for state in OPEN)

    @property
    def in_doubt(self) -> int:
        return self.get(State.IN_DOUBT, 0)

    @property
    def succeeded(self) -> int:
        return self.get(State.SUCCEEDED, 0)

    @property
    def failed(self) -> int:
        return self.get(State.FAILED, 0)

    @property
    def cancelled(self) -> int:
        return self.get(State.CANCELLED, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The counts of one run, as ``status`` shows them.

    A possible duplicate is a lost attempt whose request was sent again. Its cost is unknown: it is one of
    ``cost_unknown``, and its bound is part of ``cost_unknown_upper_bound_pusd``. The two are never added up.
    """

    run: Run
    requests: RequestCounts
    skipped_rows: int
    attempts: int
    polls: int
    rate_limited: int
    possible_duplicates: int
    possible_duplicates_upper_bound_pusd: Picodollars
    usage: Usage
    cost_pusd: Picodollars
    cost_unknown: int
    cost_unknown_upper_bound_pusd: Picodollars
    reserved_pusd: Picodollars
    elapsed_s: float

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def cost_usd(self) -> Decimal:
        """What is known to have been spent, in dollars, exactly."""
        return Decimal(format_usd(self.cost_pusd))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord:
    """One request with its latest attempt, as ``export`` writes it.

    ``attempts`` are all that were made. ``usage``, ``cost_pusd`` and ``possible_duplicates`` are those of all of them
    together, so that the rows add up to the run. The cost is None as soon as one of them is unknown or still open;
    then ``upper_bound_pusd`` is the most that all can cost, or None where not even that is known. One that is
    ``reused`` has the answer of another request, at no cost.
    """

    request_id: int
    key: str
    stage: str
    state: State
    code: str | None
    message: str | None
    attempts: int
    response_id: str | None
    status: str | None
    model: str | None
    service_tier: str | None
    output_text: str | None
    usage: Usage | None
    cost_pusd: Picodollars | None
    upper_bound_pusd: Picodollars | None
    possible_duplicates: int
    submitted_at: float | None
    settled_at: float | None
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as ``show`` tells it; ``row`` is empty where its data was dropped."""

    id: int
    key: str
    stage: str
    where: str
    state: State
    code: str | None
    message: str | None
    row: bytes
    not_before: float
    settled_at: float | None
    max_output_tokens: int | None
    turn: int = 0
    # JSON: what its latest create call replaced in the row's own, where it went on from a response of its own.
    continuation: bytes | None = None
    # The chain that it is a turn of, the key and the response of the turn before it, and the chain's conversation.
    chain: str | None = None
    follows: str | None = None
    earlier_response_id: str | None = None
    conversation_id: str | None = None
    # The attempt, of another request, whose answer it has; and that request's run and key.
    answered_by: int | None = None
    answered_in: str | None = None
    answered_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt as ``show`` tells it; ``body`` is the response as received.

    ``model`` and ``service_tier`` are what was asked for, and what the provider echoed once the response has ended.
    """

    id: int
    number: int
    counted: bool
    idempotency_key: str
    response_id: str | None
    status: str | None
    http_status: int | None
    model: str | None
    service_tier: str | None
    code: str | None
    message: str | None
    sent_at: float
    accepted_at: float | None
    completed_at: float | None
    ended_at: float | None
    possible_duplicate: bool
    worst_case_pusd: Picodollars | None
    charge: Charge | None
    output_text: str | None
    body: bytes | None
    # When the provider's copy of the response was found to be gone after its deletion.
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wasted:
    """What attempts cost that brought no answer, as far as their cost is known.

    ``failed`` is every way to fail but these: cut off (``incomplete``), without a text (``empty``), and sent again
    although the first one ran (``duplicate``).
    """

    failed: Picodollars = 0
    incomplete: Picodollars = 0
    empty: Picodollars = 0
    duplicate: Picodollars = 0

    def __add__(self, other: Wasted) -> Wasted:
        return Wasted(
            failed=self.failed + other.failed,
            incomplete=self.incomplete + other.incomplete,
            empty=self.empty + other.empty,
            duplicate=self.duplicate + other.duplicate,
        )

    @property
    def total(self) -> Picodollars:
        return self.failed + self.incomplete + self.empty + self.duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """The sum of the charges that share one value of a grouping (model, tier, day, state, …).

    ``wasted`` is part of ``cost_pusd``. Each possible duplicate is one of ``cost_unknown`` until a late look finds
    its cost, and its bound is part of ``upper_bound_pusd``. ``cache_saved_pusd`` is how much more the same tokens
    would have cost without the cache; negative where writing to it cost more than it saved.
    """

    group: tuple[str, ...]
    responses: int
    usage: Usage
    cost_pusd: Picodollars
    cost_unknown: int
    upper_bound_pusd: Picodollars
    wasted: Wasted = Wasted()
    possible_duplicates: int = 0
    possible_duplicates_upper_bound_pusd: Picodollars = 0
    cache_saved_pusd: Picodollars = 0


# ── The verbs ─────────────────────────────────────────────────────────────────────────────────────────────────


class Store(Keeper, Protocol):
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

    async def claim(self, claim: Claim) -> int | Spending | None:
        """Pending → submitting, with a new attempt; the attempt's id, or None where somebody else moved it.

        Where the claim's worst case could make its caps be passed, nothing is done, and what is spent is returned.
        The look at the caps and the claim are one: other processes may be claiming under the same caps.
        """
        ...

    async def accept(self, acceptance: Acceptance) -> bool:
        """Submitting (or in doubt) → submitted, with the response id.

        A response that an earlier attempt holds already (some gateways answer from a cache) is noted as shared, and
        is not charged again.
        """
        ...

    async def release(self, release: Release) -> bool:
        """Submitting → pending; the attempt is removed as if it had not been."""
        ...

    async def end(self, ending: Ending) -> list[Follower] | None:
        """End an attempt and move its request, charge and result included, in one transaction.

        Returns the blocked requests that moved with it: an equal one shares its answer or its failure, the next turn
        of its chain may go, and all later turns fail with ``chain_broken`` where it failed. None, and nothing
        written, where the request is no longer in ``from_state``.
        """
        ...

    async def leave(self, leaving: Leaving) -> list[Follower] | None:
        """Move a request on from ``ACTING``; returns as ``end`` does."""
        ...

    async def add_tool_call(self, call: ToolCall) -> None:
        """Keep what a tool said; a call that is there already keeps its first answer."""
        ...

    async def join(self, request_id: int, equal: Equal, fingerprint: bytes, at: float) -> State | None:
        """Let a pending request share the fate of an equal one; the state it moved to, None where it had moved.

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

    async def fail_pending(self, request_id: int, code: str, message: str, at: float) -> list[Follower] | None:
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


class Reader(Kept, Protocol):
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
    ) -> dict[bytes, Equal]:
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
