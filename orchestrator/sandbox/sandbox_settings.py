"""The settings of the simulated provider: how long answers take, its rate limits, and which faults it simulates.

They are read from ``provider.sandbox`` in a config file and from the options of ``orchestrator sandbox``.
Everything random is drawn from ``seed``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from orchestrator.core.section import Section

__all__ = [
    "BATCH_FAULTS",
    "DELIVERY_FAULTS",
    "ENDING_FAULTS",
    "FILE_FAULTS",
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
    "ServerKind",
    "Spread",
    "Tools",
    "Uniform",
    "Webhooks",
    "fault_table",
]


class Uniform(Section):
    """Every duration between two bounds is equally likely."""

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
    """Most durations are near the median, and a few are far longer, as at a real provider."""

    median_s: float = Field(gt=0)
    """Half of the durations are shorter, in seconds."""
    sigma: float = Field(default=0.5, ge=0, le=3)
    """How long the tail is: at 0.5, one duration in forty is more than 2.7 times the median."""


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
    """Delay of every HTTP reply, as on a slow network."""


class AccountLimits(Section):
    """Rate limits, separate for each model; ``null`` means no limit."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Creates allowed in a minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens allowed in a minute: those of the input plus ``max_output_tokens``."""
    burst_s: float = Field(default=60, gt=0, le=60)
    """Seconds of the allowance that may be used at once after a pause; some servers check windows of 1 or 10 s."""
    headers: bool = True
    """Whether replies report the limits in ``x-ratelimit-*`` headers."""
    polls_per_minute: int | None = Field(default=None, ge=1)
    """Polls (GET), cancels and deletes allowed in a minute, counted separately from creates."""
    batch_enqueued_tokens: int | None = Field(default=None, ge=1)
    """Input tokens that batches which have not ended may have; a batch beyond them fails."""


class Tools(Section):
    """How functions and custom tools are called, if a request offers some and allows it."""

    rounds: int = Field(default=1, ge=0)
    """How many responses in a row stop for calls, between the user's message and the answer; 0: none."""
    calls: int = Field(default=1, ge=1)
    """How many calls each of them has, if ``parallel_tool_calls`` allows more than one."""


class Webhooks(Section):
    """Events for responses of the background that have ended, as a provider sends them: each at least once."""

    deliver_to: str = Field(pattern=r"^https?://")
    """Where events are sent, whatever URL their endpoint has: it stands for the tunnel that leads there."""
    secret: SecretStr | None = None
    """The secret of an endpoint that is there from the beginning; ``POST /v1/webhook_endpoints`` makes others."""
    delay: Spread = 0.02
    """Time from the end of a response until its event is sent, in seconds."""
    longest_wait_s: float = Field(default=30, gt=0)
    """An event that is not accepted is sent again, after a time that doubles up to this one."""
    lost: float = Field(default=0, ge=0, le=1)
    """Events that are never sent."""
    repeated: float = Field(default=0, ge=0, le=1)
    """Events that are sent twice."""
    forged: float = Field(default=0, ge=0, le=1)
    """Events beside which another one is sent that is signed with a wrong secret."""


class OutageKind(StrEnum):
    """What a client sees of an outage."""

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
    """The faults to rehearse; each is a rate from 0 to 1, and all are off by default.

    At most one fault of each group strikes one create: a refusal, a fault of delivery, an ending, a quirk.
    """

    # Refusals: the create is answered with an error, and nothing was created.
    rate_limited: Rate = 0
    """429 ``rate_limit_exceeded`` with ``Retry-After``, although the limits allow the request."""
    slow_down: Rate = 0
    """429 ``slow_down``: the load rose too fast, although it is within the limits."""
    insufficient_quota: Rate = 0
    """429 ``insufficient_quota``: the account has no money left, and no retry will help."""
    server_error: Rate = 0
    """500 ``server_error``."""
    overloaded: Rate = 0
    """503 ``server_is_overloaded``."""
    bad_gateway_before: Rate = 0
    """502 from a gateway that never reached the server: nothing was created, but the client cannot know."""
    html_502: Rate = 0
    """502 with an HTML page instead of JSON; nothing was created."""
    queue_full: Rate = 0
    """HTTP 400 ``{"detail": "… queue is full …"}``: a temporary overload that looks like a wrong request."""
    flex_unavailable: Rate = 0
    """429 "Resource Unavailable", only for requests of the service tier ``flex``."""
    forbidden: Rate = 0
    """403 ``unsupported_country_region_territory``."""
    request_timeout: Rate = 0
    """408: the server did not get the request in time."""
    conflict: Rate = 0
    """409: another request holds what this one needs."""
    unprocessable: Rate = 0
    """422: well-formed, but cannot be processed."""
    conversation_locked: Rate = 0
    """400 ``conversation_locked``: another response is writing to the conversation."""
    drop_before: Rate = 0
    """The connection is closed before anything is created."""

    # Delivery: the response was created, runs and costs money, but the reply is lost on the way.
    bad_gateway_after: Rate = 0
    """502 from a gateway that lost the reply."""
    gateway_timeout: Rate = 0
    """504 from a gateway that did not wait for the reply."""
    gateway_reset: Rate = 0
    """503 from a gateway whose connection broke after it had forwarded the request."""
    drop_after: Rate = 0
    """The connection is closed instead of a reply."""
    drop_mid_body: Rate = 0
    """The connection breaks in the middle of the reply's body; the response id has already arrived."""
    truncated_body: Rate = 0
    """200 with a body that ends too early and is not JSON; the part that arrives contains the response id."""
    html_200: Rate = 0
    """200 with an HTML page instead of the response."""
    hang: Rate = 0
    """No reply at all, until the client gives up."""
    unreadable_200: Rate = 0
    """200 with JSON that is no response: it names neither an id nor a status."""
    broken_200: Rate = 0
    """200 with a response whose JSON is damaged after its id."""

    # Endings: the response is created and its id arrives, but it does not end with a good answer.
    failed_server_error: Rate = 0
    """Ends ``failed`` with ``server_error``; a new response may work."""
    failed_rate_limited: Rate = 0
    """Ends ``failed`` with ``rate_limit_exceeded``; a new response may work."""
    failed_invalid_prompt: Rate = 0
    """Ends ``failed`` with ``invalid_prompt``; a new response would fail again."""
    incomplete: Rate = 0
    """Ends ``incomplete`` because of ``max_output_tokens``, with half of the answer."""
    incomplete_length: Rate = 0
    """Ends ``incomplete`` because of ``length``, which is some servers' word for the same reason."""
    content_filter: Rate = 0
    """Ends ``incomplete`` because of ``content_filter``."""
    empty_output: Rate = 0
    """Ends ``completed`` and is charged, but has a reasoning item and no message."""
    refusal: Rate = 0
    """Ends ``completed`` with a refusal instead of text."""
    invalid_json: Rate = 0
    """If the request asks for JSON: ends ``completed`` with text that is not JSON."""
    wrong_schema: Rate = 0
    """If the request has a schema: ends ``completed`` with JSON that the schema refuses."""
    requires_action: Rate = 0
    """Ends ``completed``, but stopped for a function call (if the request has functions) or an MCP approval."""
    unknown_tool: Rate = 0
    """If functions are called: the first call names ``no_such_function``, which the request does not offer."""
    broken_arguments: Rate = 0
    """If functions are called: the arguments of the first call are not JSON."""
    wrong_arguments: Rate = 0
    """If functions are called: the arguments of the first call are JSON that the function's schema refuses."""
    stuck_queued: Rate = 0
    """Stays ``queued`` until it is cancelled."""
    stuck_in_progress: Rate = 0
    """Stays ``in_progress`` until it is cancelled."""

    # Quirks: the response ends well, but is shown in an odd way.
    late_after_cancel: Rate = 0
    """Shown as ``cancelled`` after a cancel, and from its planned end on as ``completed``, with its charge."""
    vanish: Rate = 0
    """Unknown (404) from ``vanish_after_s`` after its end."""
    young_404: Rate = 0
    """Unknown (404) for ``young_404_s`` after its creation."""
    ill_typed: Rate = 0
    """Usage without details, ``created_at`` as ISO text, item statuses null."""
    terminal_in_create: Rate = 0
    """The reply to the create has the complete answer, although the request asks for background mode."""
    background_ignored: Rate = 0
    """The reply to the create waits for the complete answer, although the request asks for background mode."""
    unknown_status: Rate = 0
    """Shown as ``pending`` and ``running`` instead of ``queued`` and ``in_progress``."""
    stale_snapshot: Rate = 0
    """Every poll shows the first snapshot, until a cancel."""
    stuck_when_left: Rate = 0
    """Stays ``queued`` until it is cancelled, if the client leaves its stream before it runs."""
    never_kept: Rate = 0
    """Accepted and charged, and unknown (404) from then on, as at a server that keeps no responses."""
    odd_text: Rate = 0
    """The ended response is JSON that the standard does not allow: a byte order mark, half of a surrogate pair,
    control characters and bytes that are no UTF-8 in its texts."""
    odd_fields: Rate = 0
    """The ended response has a ``completed_at`` of 400 digits, a field nested 300 deep and fields of wrong types."""
    unreadable_end: Rate = 0
    """Each reply that shows the end is JSON cut off in the middle, although the response is charged."""

    # Polls: drawn for each poll.
    poll_500: Rate = 0
    """A poll is answered with 500."""
    poll_429: Rate = 0
    """A poll is answered with 429 and ``Retry-After``."""
    poll_404: Rate = 0
    """A poll is answered with 404, although the response exists."""
    poll_drop: Rate = 0
    """The connection is closed instead of a reply to a poll."""
    poll_html: Rate = 0
    """A poll is answered with 200 and an HTML page."""
    poll_hang: Rate = 0
    """A poll is not answered until the client gives up."""
    poll_unreadable: Rate = 0
    """A poll is answered with 200 and JSON that is no response."""
    poll_swapped: Rate = 0
    """A poll is answered with another response, if there is one."""

    # Streams: drawn for each stream.
    stream_drop: Rate = 0
    """The connection breaks after some events of a stream."""
    stream_error: Rate = 0
    """After some events an ``error`` event ends the stream; a response in background mode continues."""

    # Batches: drawn for each batch; one batch has at most one of them.
    batch_token_limit: Rate = 0
    """Fails with ``token_limit_exceeded`` when it is validated, however little is enqueued."""
    batch_line_error: Rate = 0
    """Fails when it is validated: one of its lines, named by its number, is said to be wrong."""
    batch_expires: Rate = 0
    """Ends ``expired`` when half of its lines are answered, without waiting for the day to pass."""
    batch_no_output: Rate = 0
    """Ends ``completed`` without an output file: each line is in the error file, with 500, and is not charged."""
    batch_empty_ids: Rate = 0
    """Ids of files that do not exist are ``""`` instead of ``null``."""
    batch_missing_lines: Rate = 0
    """Every tenth line from the first on is in neither file, although it is charged."""
    batch_late_lines: Rate = 0
    """Every tenth line from the first on is in its file only ``batch_late_s`` after the end."""
    batch_repeated_lines: Rate = 0
    """Every tenth line from the first on is twice in its file, and once in the error file as ``batch_expired``."""
    batch_never_ends: Rate = 0
    """Stays ``in_progress`` until it is cancelled, although its lines are answered."""
    batch_slow_cancel: Rate = 0
    """After a cancel, stays ``cancelling`` for ``batch_cancel_s``."""
    batch_listed_late: Rate = 0
    """Is not in the list of batches for ``batch_late_s`` after its creation."""
    batch_reply_lost: Rate = 0
    """Is created, and a gateway answers with 502."""

    # Files: drawn for each upload.
    file_late: Rate = 0
    """Is unknown for ``batch_late_s``: creating a batch of it is refused with 400."""
    file_reply_lost: Rate = 0
    """Is stored, and a gateway answers the upload with 502."""

    # Schedules: they strike every call from a certain point on.
    quota_exhausted_after: int | None = Field(default=None, ge=0)
    """After this many accepted creates, each further create is refused with ``insufficient_quota``."""
    bad_key_after: int | None = Field(default=None, ge=0)
    """After this many accepted creates, each further create is refused because of its key (401)."""
    outages: tuple[OutageWindow, ...] = ()
    """Windows of time in which nothing works."""
    calm_after: int | None = Field(default=None, ge=0)
    """After this many creates, no refusal, fault of delivery, ending or quirk strikes any further create."""

    calm_batches_after: int | None = Field(default=None, ge=0)
    """After this many batches, no fault of batches or files strikes any further one."""
    batch_late_s: float = Field(default=5, ge=0)
    """How late the lines, files and entries are that a fault delays."""
    batch_cancel_s: float = Field(default=600, ge=0)
    """How long a batch struck by ``batch_slow_cancel`` is cancelled."""

    retry_after: str | None = Field(default="1", pattern=r"^[ -~]*$")
    """The ``Retry-After`` in the 429 of a fault: seconds, a date or nonsense; ``null`` omits the header."""
    vanish_after_s: float = Field(default=5, ge=0)
    """How long a response struck by ``vanish`` is still found after its end."""
    young_404_s: float = Field(default=1, ge=0)
    """How long a response struck by ``young_404`` is unknown after its creation."""

    @model_validator(mode="after")
    def _rates_leave_room(self) -> Self:
        for title, names in GROUPS.items():
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(f"the rates of the {title} add up to {total:g}; at most 1 is possible")
        return self


def _fields_between(first: str, last: str) -> tuple[str, ...]:
    names = list(Faults.model_fields)
    return tuple(names[names.index(first) : names.index(last) + 1])


REFUSAL_FAULTS = _fields_between("rate_limited", "drop_before")
DELIVERY_FAULTS = _fields_between("bad_gateway_after", "broken_200")
ENDING_FAULTS = _fields_between("failed_server_error", "stuck_in_progress")
QUIRKS = _fields_between("late_after_cancel", "unreadable_end")
POLL_FAULTS = _fields_between("poll_500", "poll_swapped")
STREAM_FAULTS = ("stream_drop", "stream_error")
BATCH_FAULTS = _fields_between("batch_token_limit", "batch_reply_lost")
FILE_FAULTS = ("file_late", "file_reply_lost")
GROUPS = {
    "refusals": REFUSAL_FAULTS,
    "faults of delivery": DELIVERY_FAULTS,
    "endings": ENDING_FAULTS,
    "quirks": QUIRKS,
    "faults of polls": POLL_FAULTS,
    "faults of streams": STREAM_FAULTS,
    "faults of batches": BATCH_FAULTS,
    "faults of files": FILE_FAULTS,
}


def fault_table() -> list[tuple[str, str, str]]:
    """Every fault as (group, name, what it does), for the documentation and for ``--help``."""
    group_of = {name: title for title, names in GROUPS.items() for name in names}
    docs = Faults.field_docs()
    return [(group_of.get(name, "schedules and settings"), name, docs[name]) for name in Faults.model_fields]


class Idempotency(StrEnum):
    """What a repeated ``Idempotency-Key`` on a create does."""

    IGNORE = "ignore"
    HONOUR = "honour"


class CancelEnded(StrEnum):
    """What cancelling a response that has already ended does; servers differ."""

    RETURN = "return"
    REFUSE = "refuse"


class ServerKind(StrEnum):
    """Servers of one's own that the sandbox can imitate."""

    OGX = "ogx"
    LLAMA_CPP = "llama-cpp"
    LITELLM = "litellm"


class CompletionWindows(Section):
    """The discounted completion windows of ``background_options``."""

    models: tuple[str, ...] | None = None
    """The models that take one; others refuse it. By default, all do."""
    used: float = Field(default=0, ge=0)
    """How much of its window a response waits in ``queued`` before it runs; more than 1 misses the target."""


class SandboxSettings(Section):
    """A provider for rehearsals: the API's real shapes and usage counts, but no model and no cost."""

    seed: int = 1
    """The same seed repeats the same latencies and faults, create by create."""
    api_key: SecretStr | None = None
    """The only key that is accepted; by default every key, except those that start with ``sk-bad``."""
    like: ServerKind | None = None
    """Behave as a server of one's own was seen to. ``ogx``: 10 + 100 places, then 400 "queue is full"; what a restart
    interrupts stands still; no token counts. ``llama-cpp``: the background is ignored, streams work, and nothing is
    kept. ``litellm``: ids ``litellm_poll_…``, and 400 ``no_db_connection`` for a wrong key."""
    latency: Latency = Latency()
    """How long responses take."""
    windows: CompletionWindows = CompletionWindows()
    """Completion windows."""
    limits: AccountLimits = AccountLimits()
    """Rate limits."""
    tools: Tools = Tools()
    """How often functions are called."""
    faults: Faults = Faults()
    """The faults to rehearse."""
    idempotency: Idempotency = Idempotency.IGNORE
    """``honour``: a repeated ``Idempotency-Key`` returns the first response and creates nothing."""
    cancel_ended: CancelEnded = CancelEnded.RETURN
    """``return``: cancelling an ended response returns it; ``refuse``: 400, as some servers do."""
    models: tuple[str, ...] = ()
    """Further model names to accept; their price is unknown."""
    slow_run_s: float = Field(default=60, ge=0)
    """How long a response of the model ``sandbox-slow`` runs."""
    poll_after_ms: int | None = Field(default=None, ge=0)
    """Sent as ``openai-poll-after-ms`` while a response is in progress."""
    webhooks: Webhooks | None = None
    """Events for responses that have ended."""
    keep_bodies: int = Field(default=20_000, ge=1)
    """Without a state file: how many responses keep their text; older ones become unknown (404)."""
