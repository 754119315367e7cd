"""Prepares a pending row to be sent: renders and encodes it, estimates its tokens and prices its worst case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.errors import BadRow, ConfigError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.core.money import Picodollars
from orchestrator.engine.items import NewConversation, Prepared
from orchestrator.engine.stages import Stage
from orchestrator.job.requests.compose import compose, fingerprint
from orchestrator.job.requests.foreign_objects import refuse_foreign
from orchestrator.job.requests.lane_fields import in_lane, lane_of, priced_in_lane
from orchestrator.job.requests.local_files import uploads_in
from orchestrator.job.requests.renderer import Renderer, unexpected
from orchestrator.job.requests.turns import in_conversation
from orchestrator.policy.pricing.budget import Budget
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.pricing.tokens import estimate_input, estimate_request
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.policy.reuse import usable_since
from orchestrator.stores.reads import EarlierTurn, PendingRequest

__all__ = ["Destinations", "Preparation", "Unsendable", "too_large"]


@fast_dataclass(kw_only=False)
class Unsendable:
    """Why a request can never be sent: it fails with this code, at no cost."""

    code: str
    message: str


@fast_dataclass(kw_only=False)
class Destinations:
    """Where requests may go: the limits of each endpoint; ``place_of`` finds one of several by its name."""

    pools: Sequence[Pools]
    place_of: Callable[[str | None], int] | None = None


class Preparation:
    """Renders and prices rows of one run; no I/O, so it can run while earlier requests wait for admission.

    ``provider`` is where answers may be shared between rows that ask the same.
    """

    def __init__(
        self,
        *,
        provider: str,
        renderer: Renderer,
        encode: Callable[..., bytes],
        prices: Sequence[PriceBook],
        budget: Budget,
        stage: Stage,
        destinations: Destinations,
    ) -> None:
        self._provider = provider
        self._renderer = renderer
        self._encode_fields = encode
        self._prices = prices
        self._destinations = destinations
        self._budget = budget
        settings = stage.settings
        self._stage = stage
        self._settings = settings
        self._rules = settings.rules
        self._shares = settings.ask_once or settings.reuse_max_age_s is not None

    def prepare(
        self, request: PendingRequest, now: float, earlier: Sequence[EarlierTurn] = ()
    ) -> Prepared | Unsendable:
        """Returns the request as it will be sent, or why it never can be; ``earlier`` are the turns before it."""
        try:
            return self._prepare(request, now, earlier)
        except BadRow as error:
            return Unsendable(error.code, str(error))
        except ConfigError:
            raise  # no fault of the row
        except Exception as error:  # noqa: BLE001 – what one row makes fail must not stop the others
            return Unsendable("row_invalid", str(unexpected(error, where=request.where)))

    def _prepare(self, request: PendingRequest, now: float, earlier: Sequence[EarlierTurn]) -> Prepared | Unsendable:
        continuation = request.continuation
        rendered = self._renderer.render(request.row, where=request.where)
        asked = compose(
            rendered,
            self._rules,
            request,
            history=((self._input_of(turn), turn.output_text) for turn in earlier) if earlier else (),
            continuation=None if continuation is None else continuation.fields,
        )
        model = str(asked.get("model") or "")
        lane = self._stage.lane_for(model)
        if lane is Lane.BATCH:
            lane = lane_of(lane, asked, continues=continuation is not None or request.chain is not None)
        fields = in_lane(asked, lane)
        priced = priced_in_lane(fields, lane)
        context_tokens = self._context_tokens(request)
        cap = fields.get("max_output_tokens")
        # What waits in a batch counts by its input alone.
        counted = estimate_input(fields) if lane is Lane.BATCH else estimate_request(fields)
        tokens = counted + context_tokens
        if all(pools.pool(model).never_fits(tokens) for pools in self._destinations.pools):
            return too_large(tokens)
        worst_case = self._worst_case(_bounded(priced, request, context_tokens), now, context_tokens)
        refusal = self._over_budget(worst_case)
        if refusal is not None:
            return refusal
        pin = self._pin(request, fields)
        fingerprinted = self._fingerprint(rendered, asked, request)
        return Prepared(
            request=request,
            number=request.number + 1,
            body=self._encode(lane, fields, request),
            model=model,
            service_tier=_text(priced.get("service_tier")),
            window=_completion_window(fields),
            tokens=tokens,
            worst_case_pusd=worst_case,
            max_output_tokens=cap if isinstance(cap, int) else None,
            lane=lane,
            endpoint=pin or 0,
            pin=pin,
            metadata=_pairs(fields.get("metadata")),
            fingerprint=fingerprinted,
            others_since=self._others_since(fingerprinted, now),
            new_conversation=self._new_conversation(lane, fields, request),
            uploads=tuple(dict.fromkeys(uploads_in(fields))) if self.names_files else (),
        )

    def _pin(self, request: PendingRequest, fields: Mapping[str, Any]) -> int | None:
        """Returns the endpoint that the request must go to; raises ``ConfigError`` if it is not there."""
        place_of = self._destinations.place_of
        if place_of is None:
            return None
        linked = request.earlier_response_id is not None or request.conversation_id is not None
        if request.continuation is not None or request.stays_at is not None:
            return place_of(request.stays_at)
        if linked and self._settings.chain_mode != "stateless":
            return place_of(request.chain_at)
        refuse_foreign(fields, request.where)
        return None

    def _worst_case(self, fields: Mapping[str, Any], now: float, context_tokens: int) -> Picodollars | None:
        """Returns the most that the request can cost at any endpoint; None if that is not known."""
        worst: Picodollars = 0
        for prices in self._prices:
            bound = prices.worst_case_of(fields, at=now, context_tokens=context_tokens)
            if bound is None:
                return self._settings.request_bound_pusd
            worst = max(worst, bound)
        return worst

    @property
    def names_files(self) -> bool:
        """Whether preparing reads files, which must not happen in the event loop."""
        return self._renderer.names_files

    def _encode(self, lane: Lane, fields: Mapping[str, Any], request: PendingRequest) -> bytes:
        return self._encode_fields(lane, fields, key=request.key, number=request.number + 1)

    def _input_of(self, turn: EarlierTurn) -> Any:
        return self._renderer.render(turn.row, where=turn.where).get("input")

    def _fingerprint(
        self, rendered: Mapping[str, Any], fields: Mapping[str, Any], request: PendingRequest
    ) -> bytes | None:
        # The answer of a turn depends on earlier turns, which are not in the request.
        if not self._shares or request.turn or request.chain is not None:
            return None
        # A raised max_output_tokens is not what the row asks.
        asked = fields if request.max_output_tokens is None else compose(rendered, self._rules)
        return fingerprint(asked, provider=self._provider)

    def _others_since(self, asked: bytes | None, now: float) -> float | None:
        max_age_s = self._settings.reuse_max_age_s
        return None if asked is None or max_age_s is None else usable_since(now, max_age_s, asked)

    def _new_conversation(
        self, lane: Lane, fields: Mapping[str, Any], request: PendingRequest
    ) -> NewConversation | None:
        if request.chain is None or request.conversation_id or self._settings.chain_mode != "conversation":
            return None
        return NewConversation(request.chain, lambda made: self._encode(lane, in_conversation(fields, made), request))

    def _context_tokens(self, request: PendingRequest) -> int:
        """Returns the tokens that the model reads again and that are not in the request itself."""
        if request.continuation is not None:
            return request.continuation.context_tokens
        carried_along = request.earlier_response_id is None or self._settings.chain_mode == "stateless"
        return 0 if carried_along else request.earlier_tokens

    def _over_budget(self, worst_case: int | None) -> Unsendable | None:
        if not self._budget.is_capped:
            return None
        if worst_case is None:
            return Unsendable(
                "cost_unbounded",
                "under a budget every request needs a known price, max_output_tokens, and text only; "
                "for another, say in budget.usd_per_request what it costs at most",
            )
        if not self._budget.could_ever_fit(worst_case):
            return Unsendable("over_budget", "the worst case of this one request is more than the whole budget")
        return None


def too_large(tokens: int) -> Unsendable:
    """Returns why a request with so many tokens can never be sent."""
    return Unsendable(
        "request_too_large", f"the request needs about {tokens} tokens, more than the limit of a whole minute"
    )


def _bounded(fields: Mapping[str, Any], request: PendingRequest, context_tokens: int) -> Mapping[str, Any]:
    """Returns the request without its links to earlier turns, if their tokens are known.

    They are unknown if the provider did not report the usage of the turn before.
    """
    begins = request.continuation is None and request.follows is None
    known = request.chain is not None if begins else context_tokens > 0
    if not known:
        return fields
    return {name: value for name, value in fields.items() if name not in ("previous_response_id", "conversation")}


def _completion_window(fields: Mapping[str, Any]) -> str | None:
    options = fields.get("background_options")
    return _text(options.get("completion_window")) if isinstance(options, dict) else None


def _pairs(metadata: Any) -> str | None:
    return exact_json.dumps(metadata).decode() if isinstance(metadata, dict) and metadata else None


def _text(value: Any) -> str | None:
    """Returns a field if it is text; a template can make anything else of it, which the provider will refuse."""
    return value if isinstance(value, str) else None
