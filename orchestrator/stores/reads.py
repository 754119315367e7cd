"""What a store returns. Times are Unix seconds, money is picodollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import Changes
from orchestrator.core.lanes import Lane
from orchestrator.core.model import Charge, PlanMark, Usage
from orchestrator.core.money import Bound, Picodollars, format_usd
from orchestrator.core.states import OPEN, RunState, State

__all__ = [
    "AttemptRecord",
    "Continuation",
    "CostRow",
    "Dependent",
    "Duplicate",
    "EarlierTurn",
    "Needed",
    "OpenAttempt",
    "OtherRequest",
    "PendingRequest",
    "RequestCounts",
    "RequestRecord",
    "ResultDetails",
    "ResultRecord",
    "Run",
    "SharedCaps",
    "Spending",
    "StageSummary",
    "Summary",
    "ToolCall",
    "Uncosted",
    "Wait",
    "Wasted",
]


@fast_dataclass
class Run:
    """One execution of a job. ``cancel_requested`` asks the process that works on it to cancel what is open.

    ``day`` is that for which it stands; ``resume_at`` is when the cause of its halt is over, if that is known.
    """

    id: int
    name: str
    uid: str
    job: str
    spec_json: str = field(repr=False)
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
    day: date | None = None
    resume_at: float | None = None


@fast_dataclass
class Needed:
    """What would lose something if a run were removed: datasets with answers of it, runs that wait for one."""

    datasets: tuple[str, ...] = ()
    waiting_runs: tuple[str, ...] = ()


@fast_dataclass
class SharedCaps:
    """Hard caps over all runs of a database that spend the same money as this one; None means no cap.

    Days and months are those of UTC. ``run_pusd`` is the cap of the run itself, for one that several processes work
    on; one process alone keeps it in memory.
    """

    run_id: int
    simulated: bool
    day_pusd: Picodollars | None
    month_pusd: Picodollars | None
    run_pusd: Picodollars | None = None


@fast_dataclass
class Continuation:
    """What the next turn of a request is made of.

    ``fields`` is JSON: what it replaces of the create call. ``context_tokens`` are those of all earlier turns, which
    the model reads again.
    """

    fields: bytes
    context_tokens: int


@fast_dataclass
class PendingRequest:
    """A request that waits to be sent. ``attempts`` counts those that were spent; ``number`` is that of the latest.

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
    # How often it continued a response of its own (and how often of these to have an answer repaired), and what the
    # next turn is made of.
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
    # The endpoint that has the response that it continues, or that may have accepted it already; and the one that has
    # the turn before it.
    stays_at: str | None = None
    chain_at: str | None = None


@fast_dataclass
class OpenAttempt:
    """The latest attempt of a request that is submitting, submitted, awaiting tools or in doubt."""

    attempt_id: int
    request_id: int
    key: str
    stage: str
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
    # Another run's request asked for the response, and its attempt is charged for it.
    adopted: bool = False
    lane: Lane = Lane.BACKGROUND
    # The one that has it, where the config named several.
    endpoint: str | None = None


@fast_dataclass(kw_only=False)
class EarlierTurn:
    """An earlier turn of a chain, as far as later turns need it. ``row`` is JSON."""

    row: bytes
    where: str
    output_text: str


@fast_dataclass(kw_only=False)
class Duplicate:
    """An earlier request that asks the same; ``here`` says that it is of the same run."""

    request_id: int
    here: bool


@fast_dataclass
class OtherRequest:
    """A request of another run that asks the same: one that has a whole answer, or one that is in flight.

    ``attempt_id`` is that of the answer or of its latest attempt.
    """

    request_id: int
    run_id: int
    run: str
    state: State
    attempt_id: int
    worst_case_pusd: Picodollars | None
    # It is a line of a batch that has not been collected: only its own run can find its response.
    in_batch: bool = False


@fast_dataclass
class Wait:
    """A blocked request that waits for one of another run; ``state`` is that of the other one."""

    request_id: int
    other_id: int
    run_id: int
    run: str
    state: State
    in_batch: bool = False


@fast_dataclass(kw_only=False)
class Dependent:
    """A blocked request that moved with the one it waited for; ``code`` says why it failed."""

    key: str
    to: State
    code: str | None = None


@fast_dataclass
class Spending:
    """What runs that spend the same money were charged, unknown costs at the most they can be, and have set aside.

    ``own_pusd`` is set aside by the run that asks, ``elsewhere_pusd`` by others; ``holders`` are these others.
    ``run_pusd`` is what the run was charged since it began, if it has a cap that its processes share.
    """

    day_pusd: Picodollars
    month_pusd: Picodollars
    own_pusd: Picodollars
    elsewhere_pusd: Picodollars
    holders: tuple[int, ...] = ()
    run_pusd: Picodollars = 0
    # The day, and the first day of the month, counted since 1970-01-01.
    day: int = field(default=0, compare=False)
    first_of_month: int = field(default=0, compare=False)

    def under(self, caps: SharedCaps) -> list[tuple[str, Picodollars, Picodollars, int]]:
        """The caps that are set: the scope of each, its limit, what is spent of it, and a number for the period."""
        scopes = (
            ("run", caps.run_pusd, self.run_pusd, 0),
            ("day", caps.day_pusd, self.day_pusd, self.day),
            ("month", caps.month_pusd, self.month_pusd, self.first_of_month),
        )
        return [(scope, limit, spent, period) for scope, limit, spent, period in scopes if limit is not None]

    def has_room(self, caps: SharedCaps, amount: Picodollars) -> bool:
        """Whether this amount can be set aside without a cap ever being exceeded."""
        own = self.own_pusd + amount
        # What other runs have set aside does not count under the run's own cap.
        aside = {"run": own}
        beside = own + self.elsewhere_pusd
        return all(spent + aside.get(scope, beside) <= limit for scope, limit, spent, _ in self.under(caps))


@fast_dataclass
class ToolCall:
    """The result of one function call of a response. ``arguments`` is JSON as the model wrote it."""

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


@fast_dataclass
class Uncosted:
    """An attempt that was given up and whose cost is not known."""

    attempt_id: int
    response_id: str
    model: str
    service_tier: str | None
    window: str | None
    sent_at: float
    upper_bound_pusd: Picodollars | None
    endpoint: str | None = None


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


@fast_dataclass
class StageSummary:
    """The counts of one stage of a run.

    ``partial`` groups were asked without rows that had failed; of ``outdated`` ones, such rows are there now.
    """

    requests: RequestCounts
    cost_pusd: Picodollars = 0
    cost_unknown: int = 0
    partial: int = 0
    outdated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Summary:
    """The counts of one run, as ``status`` shows them.

    ``reused`` counts requests that have the answer of another one. A possible duplicate is a lost attempt whose
    request was sent again. Its cost is unknown: it is one of ``cost_unknown``, and its bound is part of
    ``cost_unknown_bound``. The two are never added up. ``cost_estimated_pusd`` is the part of ``cost_pusd`` that
    follows from an estimated price.
    """

    run: Run
    requests: RequestCounts
    skipped_rows: int
    attempts: int
    polls: int
    rate_limited: int
    reused: int
    possible_duplicates: int
    possible_duplicates_bound: Bound
    usage: Usage
    cost_pusd: Picodollars
    cost_unknown: int
    cost_unknown_bound: Bound
    reserved_pusd: Picodollars
    elapsed_s: float
    cost_estimated_pusd: Picodollars = 0
    # What a job with increments found changed; None for any other, and until the input was read.
    changes: Changes | None = None
    # Of a job with stages, in their order; empty for any other, and in lists of runs.
    stages: Mapping[str, StageSummary] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Without the job, which may be long."""
        return f"Summary({', '.join(f'{name}={value}' for name, value in self._words().items())})"

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in self._words().items())
        return f"<table>{''.join(cells)}</table>"

    def _words(self) -> dict[str, str | int]:
        counts = {state.value: number for state, number in self.requests.items() if number}
        rows = {"requests": sum(counts.values()), **counts}
        return {"run": self.run.name, "state": self.run.state.value, **rows, "cost_usd": format_usd(self.cost_pusd)}

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def cost_usd(self) -> Decimal:
        """What is known to have been spent, in dollars, exactly."""
        return Decimal(format_usd(self.cost_pusd))

    @property
    def cost_unknown_upper_bound_pusd(self) -> Picodollars | None:
        """The most that responses of unknown cost can have cost; None if no bound is known for one."""
        return self.cost_unknown_bound.pusd

    @property
    def possible_duplicates_upper_bound_pusd(self) -> Picodollars | None:
        """The most that responses that may exist twice can have cost; None if no bound is known for one."""
        return self.possible_duplicates_bound.pusd


@fast_dataclass(kw_only=False)
class ResultDetails:
    """The row of a request, as JSON (empty if it was dropped), and its response as it was received."""

    row: bytes
    body: bytes | None = None


@fast_dataclass
class ResultRecord:
    """One request with its latest attempt, as ``export`` writes it.

    ``attempts`` are all that were made. ``usage``, ``cost_pusd`` and ``possible_duplicates`` are those of all of them
    together, so that the rows add up to the run. The cost is None as soon as one of them is unknown or still open;
    then ``upper_bound_pusd`` is the most that all can cost, or None if not even that is known. One that is
    ``reused`` has the answer of another request, at no cost. ``cost_estimated`` says that the price of one attempt is
    an estimate.
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
    cost_estimated: bool = False
    lane: Lane | None = None
    endpoint: str | None = None
    # What a person noted on it.
    flag: str | None = None
    note: str | None = None
    # Made of several rows; and of how many more it would have been, had they not failed.
    is_group: bool = False
    rows_missing: int = 0
    # Only where an export asked for it.
    details: ResultDetails | None = None


@fast_dataclass
class RequestRecord:
    """One request as ``show`` prints it; ``row`` is empty if its data was dropped."""

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
    # JSON: what its latest create call replaced in the row's own, if it continued a response of its own.
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


@fast_dataclass
class AttemptRecord:
    """One attempt as ``show`` prints it; ``body`` is the response as received.

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
    lane: Lane = Lane.BACKGROUND
    endpoint: str | None = None


@fast_dataclass
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


@fast_dataclass
class CostRow:
    """The sum of the charges that share one value of a grouping (model, tier, day, state, …).

    ``wasted`` is part of ``cost_pusd``. Each possible duplicate is one of ``cost_unknown`` until a late poll finds
    its cost, and its bound is part of ``unknown_bound``. ``estimated_pusd`` is the part of ``cost_pusd`` that follows
    from an estimated price. ``cache_saved_pusd`` is how much more the same tokens would have cost without the cache;
    negative if writing to it cost more than it saved.
    """

    group: tuple[str, ...]
    responses: int
    usage: Usage
    cost_pusd: Picodollars
    cost_unknown: int
    unknown_bound: Bound = Bound()
    estimated_pusd: Picodollars = 0
    wasted: Wasted = Wasted()
    possible_duplicates: int = 0
    possible_duplicates_bound: Bound = Bound()
    cache_saved_pusd: Picodollars = 0
