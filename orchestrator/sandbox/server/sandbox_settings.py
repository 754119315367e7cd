"""What the rehearsal provider does: how long answers take, what it allows, and which faults it plays.

The same model is read from ``provider.sandbox`` in a config file and from the options of
``orchestrator sandbox``. Everything random is drawn from ``seed``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

__all__ = [
    "DELIVERY_FAULTS",
    "ENDING_FAULTS",
    "GROUPS",
    "POLL_FAULTS",
    "QUIRKS",
    "REFUSAL_FAULTS",
    "STREAM_FAULTS",
    "AccountLimits",
    "CancelEnded",
    "Faults",
    "Idempotency",
    "Latency",
    "Lognormal",
    "OutageKind",
    "OutageWindow",
    "SandboxSettings",
    "Spread",
    "Tools",
    "Uniform",
    "fault_table",
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Uniform(Section):
    """Any duration between two bounds is as likely as any other."""

    from_s: float = Field(ge=0)
    """The shortest duration, in seconds."""
    to_s: float = Field(ge=0)
    """The longest duration, in seconds."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.to_s < self.from_s:
            raise ValueError("to_s must not be less than from_s")
        return self


class Lognormal(Section):
    """Most durations lie near the median, and a few take far longer, as they do at a real provider."""

    median_s: float = Field(gt=0)
    """Half of the durations are shorter, in seconds."""
    sigma: float = Field(default=0.5, ge=0, le=3)
    """How far the tail reaches: at 0.5 one in forty takes more than 2.7 times the median."""


def _kind_of_spread(value: Any) -> str:
    if isinstance(value, Lognormal) or (isinstance(value, dict) and ("median_s" in value or "sigma" in value)):
        return "lognormal"
    return "uniform" if isinstance(value, (Uniform, dict)) else "fixed"


Spread: TypeAlias = Annotated[
    Annotated[float, Field(ge=0), Tag("fixed")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[Lognormal, Tag("lognormal")],
    Discriminator(_kind_of_spread),
]


class Latency(Section):
    """How long a response takes: a number of seconds, ``{from_s, to_s}``, or ``{median_s, sigma}``."""

    queue: Spread = Uniform(from_s=0.05, to_s=0.3)
    """Time spent in ``queued``."""
    run: Spread = Lognormal(median_s=0.8, sigma=0.5)
    """Time spent in ``in_progress``."""
    reply: Spread = 0.0
    """Time that every HTTP reply takes, as if the network were slow."""


class AccountLimits(Section):
    """Rate limits, for each model on its own; ``null`` means that there is none."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Creates allowed in a minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens allowed in a minute: those of the input and ``max_output_tokens`` together."""
    burst_s: float = Field(default=60, gt=0, le=60)
    """Seconds of the allowance that may be used at once after a rest; some servers check windows of 1 or 10 s."""
    headers: bool = True
    """Whether replies tell the limits in ``x-ratelimit-*`` headers."""
    polls_per_minute: int | None = Field(default=None, ge=1)
    """Looks (GET), cancels and deletes allowed in a minute, counted apart from creates."""


class Tools(Section):
    """How functions and custom tools are called, where a request offers some and allows it."""

    rounds: int = Field(default=1, ge=0)
    """How many responses in a row stop for calls, from the user's message to the answer; 0: none."""
    calls: int = Field(default=1, ge=1)
    """How many calls each of them has, where ``parallel_tool_calls`` allows more than one."""


class OutageKind(StrEnum):
    """How an outage shows itself."""

    REFUSE = "refuse"
    OVERLOADED = "overloaded"


class OutageWindow(Section):
    """A window of time in which nothing works."""

    from_s: float = Field(ge=0)
    """Seconds after the sandbox started."""
    to_s: float = Field(gt=0)
    """Seconds after the sandbox started."""
    kind: OutageKind = OutageKind.REFUSE
    """``refuse``: nothing listens on the port; ``overloaded``: every call is answered with 503."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError("to_s must be more than from_s")
        return self


Rate: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Faults(Section):
    """The troubles to rehearse; each is a rate from 0 to 1, and all are off until switched on.

    At most one fault of each group strikes one create: a refusal, a fault of delivery, an ending, a quirk.
    """

    # Refusals: the create is answered with an error, and nothing was created.
    rate_limited: Rate = 0
    """429 ``rate_limit_exceeded`` with ``Retry-After``, although the limits allow the request."""
    slow_down: Rate = 0
    """429 ``slow_down``: the load rose too fast, although it is inside the limits."""
    insufficient_quota: Rate = 0
    """429 ``insufficient_quota``: the account has no money left, and no retry will help."""
    server_error: Rate = 0
    """500 ``server_error``."""
    overloaded: Rate = 0
    """503 ``server_is_overloaded``."""
    bad_gateway_before: Rate = 0
    """502 from a gateway that never reached the server: nothing was created, but the client cannot know."""
    html_502: Rate = 0
    """502 with an HTML page in place of JSON; nothing was created."""
    queue_full: Rate = 0
    """HTTP 400 ``{"detail": "… queue is full …"}``: a passing overload that looks like a wrong request."""
    flex_unavailable: Rate = 0
    """429 "Resource Unavailable", for requests of the service tier ``flex`` only."""
    forbidden: Rate = 0
    """403 ``unsupported_country_region_territory``."""
    request_timeout: Rate = 0
    """408: the server did not get the request in time."""
    conflict: Rate = 0
    """409: something else holds what the request needs."""
    unprocessable: Rate = 0
    """422: well-formed, and still not to be processed."""
    conversation_locked: Rate = 0
    """400 ``conversation_locked``: another response is writing to the conversation."""
    drop_before: Rate = 0
    """The connection is closed before anything was created."""

    # Delivery: the response was created, runs and costs money, but the reply is lost on the way.
    bad_gateway_after: Rate = 0
    """502 from a gateway that lost the reply."""
    gateway_timeout: Rate = 0
    """504 from a gateway that did not wait for the reply."""
    gateway_reset: Rate = 0
    """503 from a gateway whose connection broke after it had sent the request on."""
    drop_after: Rate = 0
    """The connection is closed in place of a reply."""
    drop_mid_body: Rate = 0
    """The connection breaks in the middle of the reply's body; the response id has already arrived."""
    truncated_body: Rate = 0
    """200 with a body that ends too early and is not JSON; the response id is in what arrives."""
    html_200: Rate = 0
    """200 with an HTML page in place of the response."""
    hang: Rate = 0
    """No reply at all, until the client gives up."""

    # Endings: the response is created and known, but does not end as hoped.
    failed_server_error: Rate = 0
    """Ends ``failed`` with ``server_error``; a new response may work."""
    failed_rate_limited: Rate = 0
    """Ends ``failed`` with ``rate_limit_exceeded``; a new response may work."""
    failed_invalid_prompt: Rate = 0
    """Ends ``failed`` with ``invalid_prompt``; a new response would fail again."""
    incomplete: Rate = 0
    """Ends ``incomplete`` because of ``max_output_tokens``, with half of the answer."""
    incomplete_length: Rate = 0
    """Ends ``incomplete`` because of ``length``, as some servers call the same thing."""
    content_filter: Rate = 0
    """Ends ``incomplete`` because of ``content_filter``."""
    empty_output: Rate = 0
    """Ends ``completed`` and is charged, but holds a reasoning item and no message."""
    refusal: Rate = 0
    """Ends ``completed`` with a refusal in place of text."""
    invalid_json: Rate = 0
    """Where JSON was asked for: ends ``completed`` with text that is no JSON."""
    wrong_schema: Rate = 0
    """Where a schema was given: ends ``completed`` with JSON that the schema refuses."""
    requires_action: Rate = 0
    """Ends ``completed``, but stopped for a function call (if the request has functions) or an MCP approval."""
    unknown_tool: Rate = 0
    """Where functions are called: the first call names ``no_such_function``, which nobody offered."""
    broken_arguments: Rate = 0
    """Where functions are called: the arguments of the first call are no JSON."""
    wrong_arguments: Rate = 0
    """Where functions are called: the arguments of the first call are JSON that the function's schema refuses."""
    stuck_queued: Rate = 0
    """Stays ``queued`` until it is cancelled."""
    stuck_in_progress: Rate = 0
    """Stays ``in_progress`` until it is cancelled."""

    # Quirks: the response ends well, but is shown in an odd way.
    late_after_cancel: Rate = 0
    """Shown as ``cancelled`` after a cancel, and as ``completed``, with its charge, when its time has come."""
    vanish: Rate = 0
    """Unknown (404) from ``vanish_after_s`` after its end."""
    young_404: Rate = 0
    """Unknown (404) for ``young_404_s`` after its creation."""
    ill_typed: Rate = 0
    """Usage without details, ``created_at`` as ISO text, item statuses null."""
    terminal_in_create: Rate = 0
    """The answer is complete in the reply to the create, although the background was asked for."""
    background_ignored: Rate = 0
    """The reply to the create comes only when the answer is complete, although the background was asked for."""
    unknown_status: Rate = 0
    """Shown as ``pending`` and ``running`` in place of ``queued`` and ``in_progress``."""
    stale_snapshot: Rate = 0
    """Every look shows the first snapshot, until a cancel."""
    stuck_when_left: Rate = 0
    """Stays ``queued`` until it is cancelled, if the client leaves its stream before it runs."""

    # Polls: drawn anew for each look.
    poll_500: Rate = 0
    """A look is answered with 500."""
    poll_429: Rate = 0
    """A look is answered with 429 and ``Retry-After``."""
    poll_404: Rate = 0
    """A look is answered with 404, although the response is there."""
    poll_drop: Rate = 0
    """The connection is closed in place of a reply to a look."""
    poll_html: Rate = 0
    """A look is answered with 200 and an HTML page."""
    poll_hang: Rate = 0
    """A look is not answered until the client gives up."""

    # Streams: drawn anew for each stream.
    stream_drop: Rate = 0
    """The connection breaks after some events of a stream."""
    stream_error: Rate = 0
    """After some events an ``error`` event comes, and the stream ends; a response in the background goes on."""

    # Schedules: they begin at a certain point and then always strike.
    quota_exhausted_after: int | None = Field(default=None, ge=0)
    """After this many accepted creates, each further one is refused with ``insufficient_quota``."""
    bad_key_after: int | None = Field(default=None, ge=0)
    """After this many accepted creates, the key is refused (401) on every call that creates."""
    outages: tuple[OutageWindow, ...] = ()
    """Windows of time in which nothing works."""
    calm_after: int | None = Field(default=None, ge=0)
    """After this many creates no refusal, fault of delivery, ending or quirk strikes a further one."""

    retry_after: str | None = Field(default="1", pattern=r"^[ -~]*$")
    """What ``Retry-After`` says in the 429 of a fault: seconds, a date or nonsense; ``null`` leaves it out."""
    vanish_after_s: float = Field(default=5, ge=0)
    """How long after its end a response that will ``vanish`` is still there."""
    young_404_s: float = Field(default=1, ge=0)
    """How long after its creation a response struck by ``young_404`` is unknown."""

    @model_validator(mode="after")
    def _rates_leave_room(self) -> Self:
        for title, names in GROUPS.items():
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(f"the rates of the {title} add up to {total:g}; at most 1 is possible")
        return self


def _between(first: str, last: str) -> tuple[str, ...]:
    names = list(Faults.model_fields)
    return tuple(names[names.index(first) : names.index(last) + 1])


REFUSAL_FAULTS = _between("rate_limited", "drop_before")
DELIVERY_FAULTS = _between("bad_gateway_after", "hang")
ENDING_FAULTS = _between("failed_server_error", "stuck_in_progress")
QUIRKS = _between("late_after_cancel", "stuck_when_left")
POLL_FAULTS = _between("poll_500", "poll_hang")
STREAM_FAULTS = ("stream_drop", "stream_error")
GROUPS = {
    "refusals": REFUSAL_FAULTS,
    "faults of delivery": DELIVERY_FAULTS,
    "endings": ENDING_FAULTS,
    "quirks": QUIRKS,
    "faults of polls": POLL_FAULTS,
    "faults of streams": STREAM_FAULTS,
}


def fault_table() -> list[tuple[str, str, str]]:
    """Every fault as (group, name, what it does), for the documentation and for ``--help``."""
    group_of = {name: title for title, names in GROUPS.items() for name in names}
    return [
        (group_of.get(name, "schedules and settings"), name, field.description or "")
        for name, field in Faults.model_fields.items()
    ]


class Idempotency(StrEnum):
    """What a repeated ``Idempotency-Key`` on a create does."""

    IGNORE = "ignore"
    HONOUR = "honour"


class CancelEnded(StrEnum):
    """What a cancel of a response does that has ended already; servers differ."""

    RETURN = "return"
    REFUSE = "refuse"


class SandboxSettings(Section):
    """A provider for rehearsals: true shapes and honest usage, no model behind it, no money spent."""

    seed: int = 1
    """The same seed plays the same latencies and faults again, create by create."""
    api_key: SecretStr | None = None
    """The only key that is accepted; without one any key is, except those that start with ``sk-bad``."""
    latency: Latency = Latency()
    """How long responses take."""
    limits: AccountLimits = AccountLimits()
    """Rate limits."""
    tools: Tools = Tools()
    """How often functions are called."""
    faults: Faults = Faults()
    """The troubles to rehearse."""
    idempotency: Idempotency = Idempotency.IGNORE
    """``honour``: a repeated ``Idempotency-Key`` returns the first response and creates nothing."""
    cancel_ended: CancelEnded = CancelEnded.RETURN
    """``return``: cancelling an ended response returns it; ``refuse``: 400, as some servers do."""
    models: tuple[str, ...] = ()
    """Further model names to accept; their price is unknown."""
    slow_run_s: float = Field(default=60, ge=0)
    """How long a response of the model ``sandbox-slow`` runs."""
    poll_after_ms: int | None = Field(default=None, ge=0)
    """Sent as ``openai-poll-after-ms`` while a response is under way."""
    keep_bodies: int = Field(default=20_000, ge=1)
    """Without a state file: how many responses are remembered with their text; older ones become unknown (404)."""
