"""The values that the layers pass to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars

__all__ = [
    "MAIN_STAGE",
    "Charge",
    "FunctionCall",
    "NewRequest",
    "PastUse",
    "PlanMark",
    "RateLimits",
    "Response",
    "Seen",
    "SkippedRow",
    "ToolUse",
    "UnitPrice",
    "Usage",
]

# The one stage of a job that names none.
MAIN_STAGE = "main"


@fast_dataclass(kw_only=False)
class Usage:
    """Tokens of one response.

    ``cached_tokens`` and ``cache_write_tokens`` are inside ``input_tokens``; ``reasoning_tokens`` are inside
    ``output_tokens`` (responses API, "usage"). ``cache_write_12h_tokens`` are those written to stay for twelve hours,
    inside ``cache_write_tokens``.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cache_write_12h_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.total_tokens + other.total_tokens,
            self.cache_write_12h_tokens + other.cache_write_12h_tokens,
        )


@fast_dataclass(kw_only=False)
class ToolUse:
    """What a response used of tools that are charged apart: by call, by session, or by the tokens of images.

    ``web_searches`` are those that are billed: opening a page is not. Image tokens are not part of the usage.
    """

    web_searches: int = 0
    file_searches: int = 0
    code_sessions: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0


@fast_dataclass
class Response:
    """The provider's response object as one poll returned it.

    ``status`` is the provider's word, verbatim; ``ended`` says whether it is final. ``body`` is the JSON as
    received. Times are Unix seconds.
    """

    id: str
    status: str
    ended: bool
    body: bytes
    model: str | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    tool_use: ToolUse = ToolUse()
    # Whether its counts leave open what is billed: the lifetime of cache writes, or which web searches are free.
    uncertain_use: bool = False
    # Whether its output is known to hold only messages and reasoning, and no tool call.
    no_tool_items: bool = False
    # Whether it made a picture, which is an answer too.
    has_image: bool = False
    error_code: str | None = None
    error_message: str | None = None
    incomplete_reason: str | None = None
    output_text: str = ""
    refusal: str | None = None
    # The kind of the call or approval that the response waits for, such as "function_call".
    waits_for: str | None = None
    created_at: float | None = None
    completed_at: float | None = None
    # The request's metadata, if the provider repeats it.
    metadata: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@fast_dataclass
class RateLimits:
    """The ``x-ratelimit-*`` headers of one reply; ``None`` for a header that is absent.

    The resets are seconds until the whole allowance is restored, not until one more request fits.
    """

    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_s: float | None = None
    reset_tokens_s: float | None = None


@fast_dataclass
class Seen:
    """A readable reply to create, retrieve or cancel: the response and the headers."""

    response: Response
    # With lower-case names.
    headers: Mapping[str, str]
    # Seconds after which the provider asks for the next poll (``openai-poll-after-ms``).
    poll_after_s: float | None = None
    # Held until the response is settled: the room that a large reply takes of the memory that all share.
    lease: object = field(default=None, compare=False, repr=False)


@fast_dataclass
class NewRequest:
    """One input row that becomes a request. ``row`` is the JSON of the fields that the template needs.

    ``position`` is the row's place in the input, rising from 0; ``where`` is that place for people (``file:line``).
    A row with a ``chain`` is a turn of it, in the order of ``place``. With ``passes_on``, rows of later stages are
    made of it once it is settled.
    """

    key: str
    position: int
    where: str
    row: bytes
    stage: str = MAIN_STAGE
    chain: str | None = None
    place: float | str | None = None
    passes_on: bool = False


@fast_dataclass
class FunctionCall:
    """A call of a function tool that a response stopped for. ``arguments`` is JSON as the model wrote it."""

    call_id: str
    name: str
    arguments: str


@fast_dataclass
class SkippedRow:
    """A bad input row that ``input.on_bad_row: skip`` skips."""

    position: int
    where: str
    reason: str


@fast_dataclass
class PlanMark:
    """How far the input was read, committed together with those rows: ``position`` rows were read."""

    position: int
    complete: bool


@fast_dataclass
class UnitPrice:
    """The unit prices behind a charge, in picodollars per token, and their source.

    ``tier`` is the priced service tier. ``fee_*`` are picodollars per call or session. ``estimated`` marks a price
    that was inferred instead of published for exactly this model and tier.
    """

    model: str
    tier: str
    input: int
    cached: int
    cache_write: int
    cache_write_12h: int
    output: int
    source: str
    version: str
    fee_web_search: int = 0
    fee_file_search: int = 0
    fee_code_session: int = 0
    estimated: bool = False


@fast_dataclass
class Charge:
    """What one response cost: exactly, or unknown with an upper bound.

    ``cost_pusd`` is None if usage or price is unknown; then ``upper_bound_pusd`` is the most it can be, or None if
    even that is unknown. ``image_pusd`` is the part of it that generated images cost.
    """

    usage: Usage | None
    cost_pusd: Picodollars | None
    upper_bound_pusd: Picodollars | None
    price: UnitPrice | None
    tool_use: ToolUse = ToolUse()
    image_pusd: Picodollars = 0

    @property
    def estimated(self) -> bool:
        """Whether the cost follows from an estimated price."""
        return self.price is not None and self.price.estimated


@fast_dataclass
class PastUse:
    """What settled requests used, with all their attempts; sums that can be added.

    ``output_squares`` is the sum of the squared output tokens of each request, ``fees_pusd`` the cost of hosted
    tools, ``seconds`` the total duration of the responses.
    """

    requests: int = 0
    responses: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_squares: int = 0
    fees_pusd: Picodollars = 0
    seconds: float = 0.0

    def __add__(self, other: PastUse) -> PastUse:
        return PastUse(
            requests=self.requests + other.requests,
            responses=self.responses + other.responses,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            output_squares=self.output_squares + other.output_squares,
            fees_pusd=self.fees_pusd + other.fees_pusd,
            seconds=self.seconds + other.seconds,
        )
