"""What a store is given to write. Times are Unix seconds, money is picodollars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from orchestrator.core.errors import IllegalTransition, UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.core.model import Charge
from orchestrator.core.money import Picodollars
from orchestrator.core.states import IN_FLIGHT, TRANSITIONS, Event, State, move
from orchestrator.stores.reads import Continuation, SharedCaps

__all__ = [
    "Acceptance",
    "Adoption",
    "Claim",
    "Counts",
    "Ending",
    "Leaving",
    "NewRun",
    "Release",
    "Requeue",
]

_ENDINGS: dict[tuple[State, Event], State] = {
    (source, event): target
    for (source, event), target in TRANSITIONS.items()
    if source in IN_FLIGHT and event not in (Event.ACCEPT, Event.RELEASE)
}
_RESOLUTIONS = {"resend": Event.RETRY, "fail": Event.FAIL}


@fast_dataclass
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
    # In the embedded sandbox, whose money is play money.
    simulated: bool = False
    # The day for which it stands, if it stands for one.
    day: date | None = None


@fast_dataclass
class Claim:
    """The intent to send one request, on disk before the POST.

    ``model``, ``service_tier`` and ``window`` (``background_options.completion_window``) are what is asked for; the
    ending replaces the first two by the response's own.
    """

    request_id: int
    run_id: int
    stage: str
    number: int
    idempotency_key: str
    at: float
    model: str
    service_tier: str | None = None
    window: str | None = None
    lane: Lane = Lane.BACKGROUND
    # The most this attempt can cost; None if no price is known.
    worst_case_pusd: Picodollars | None
    # The claim is refused if it could exceed these.
    caps: SharedCaps | None = None
    # JSON: the user's own metadata.
    metadata: str | None = None
    # Equal for requests that ask the same; None if they need not be found.
    fingerprint: bytes | None = None
    # The claim is refused if an earlier request of the run has the fingerprint: for one with several processes.
    asks_once: bool = False
    # The claim is refused if another run has the same request in flight, or an answer since then; None: not asked.
    others_since: float | None = None
    # The endpoint that it is sent to, where the config names several.
    endpoint: str | None = None


@fast_dataclass
class Acceptance:
    """The provider created a response: its id, on disk before anything else happens with it.

    ``adopted`` says that another request's response is taken over on purpose, because it asked the same.
    ``from_state`` is ``IN_DOUBT`` if the id was found after the reply to the create was lost.
    """

    request_id: int
    attempt_id: int
    response_id: str
    status: str
    at: float
    adopted: bool = False
    from_state: State = State.SUBMITTING

    @property
    def to(self) -> State:
        """The state that follows; raises ``IllegalTransition`` if the request cannot be accepted from there."""
        return move(self.from_state, Event.ACCEPT)


@fast_dataclass
class Adoption:
    """A pending request takes over the open response of another run's request, which then waits for it.

    ``adopted_id`` is that request, and ``from_state`` the state it is in: ``SUBMITTED`` or ``AWAITING_TOOLS``.
    """

    request_id: int
    run_id: int
    stage: str
    number: int
    fingerprint: bytes
    adopted_id: int
    from_state: State
    at: float


@fast_dataclass
class Release:
    """A claimed request goes back to the queue and the attempt is undone: nothing was created.

    ``rate_limited`` counts it as refused by the provider's rate limit.
    """

    request_id: int
    attempt_id: int
    not_before: float
    rate_limited: bool = False


@fast_dataclass
class Ending:
    """How one attempt ended, with everything that belongs into the same transaction.

    ``event`` moves the request on from ``from_state``, one of ``IN_FLIGHT``. ``charge`` is given if the attempt has a
    response id; without one, only a charge of unknown cost is accepted (the reply was lost, and something may have
    been spent). ``renew_idempotency`` says that a response *with an id* has ended, so that the next create asks for
    a new one and gets a new key. ``count_attempt`` is False if the attempt must not count against ``retry.attempts``
    although it stays on record. With ``LOSE`` the attempt stays open: it ends, and counts, when the doubt is
    resolved. ``not_before`` is when a request that is tried again is due; a time in the past means at once.
    """

    request_id: int
    attempt_id: int
    from_state: State
    event: Event
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
    # A response whose id is not known may exist, and the request is sent again: counted as a possible duplicate.
    possible_duplicate: bool = False
    # Replaces the job's max_output_tokens from the next attempt on (on_incomplete: raise_max_output_tokens_to).
    max_output_tokens: int | None = None
    # The id of a response that becomes known with its end: that of a line of a batch.
    response_id: str | None = None
    # With ``CONTINUE``: the request continues from this response, in a turn of its own with attempts of its own.
    continuation: Continuation | None = None

    @property
    def to(self) -> State:
        """The state that follows; raises ``IllegalTransition`` if no attempt can end so."""
        try:
            return _ENDINGS[self.from_state, self.event]
        except KeyError:
            raise IllegalTransition(self.from_state.value, self.event.value) from None


@fast_dataclass
class Leaving:
    """How a request leaves ``AWAITING_TOOLS``: ``CONTINUE`` with its next turn, or ``FAIL`` or ``CANCEL``."""

    request_id: int
    attempt_id: int
    event: Event
    at: float
    code: str | None = None
    message: str | None = None
    continuation: Continuation | None = None

    @property
    def to(self) -> State:
        """The state that follows; raises ``IllegalTransition`` if the request cannot leave so."""
        return move(State.AWAITING_TOOLS, self.event)


@fast_dataclass
class Requeue:
    """Which requests of a run are tried again, for ``retry``; what succeeded never is.

    ``states`` are those that can ``REQUEUE``; ``code`` narrows it to requests that ended with that code, ``stage`` to
    those of a stage, ``flag`` to those that a person gave that flag. Groups of later stages that failed for want of
    them wait for them again.
    ``resolve_in_doubt`` is ``"resend"`` (the lost attempt becomes a possible duplicate), ``"fail"`` or None (requests
    in doubt stay); either way the lost attempt's cost is unknown, with its worst case as the upper bound. Attempts
    count from 0 again, history stays, and the run becomes active again if anything moved. Raises ``UsageError`` for a
    state that cannot be requeued and for another resolution.
    """

    run_id: int
    states: Sequence[State]
    code: str | None = None
    resolve_in_doubt: str | None = None
    stage: str | None = None
    at: float
    flag: str | None = None

    def __post_init__(self) -> None:
        wrong = [state.value for state in self.states if (state, Event.REQUEUE) not in TRANSITIONS]
        if wrong:
            raise UsageError(
                f"requests that are {' or '.join(wrong)} cannot be tried again",
                hint="failed and cancelled ones can; for those in doubt there is --resolve-in-doubt resend|fail",
            )
        if self.resolve_in_doubt is not None and self.resolve_in_doubt not in _RESOLUTIONS:
            raise UsageError(f"in-doubt requests can be resolved by resend or fail, not by {self.resolve_in_doubt!r}")

    @property
    def resolution(self) -> Event | None:
        """What happens to the requests in doubt; None if they stay."""
        return None if self.resolve_in_doubt is None else _RESOLUTIONS[self.resolve_in_doubt]


@fast_dataclass
class Counts:
    """Additions to a run's counters that belong to no single request."""

    polls: int = 0
    rate_limited: int = 0
    elapsed_s: float = 0.0
