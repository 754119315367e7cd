"""Makes a pending row ready to be sent: rendered, encoded, its tokens and its worst case reckoned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.core.errors import BadRow
from orchestrator.engine.items import NewConversation, Prepared
from orchestrator.engine.settings import Settings
from orchestrator.executors.base import Executor
from orchestrator.job.requests.local_files import uploads_in
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.requests.turns import cache_key, fingerprint, going_on, in_conversation, with_history
from orchestrator.policy.pricing.budget import Budget
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.pricing.tokens import estimate_request
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.stores.reads import EarlierTurn, PendingRequest

__all__ = ["Preparation", "Unsendable", "too_large"]


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The request can never be sent: it fails with this code, and nothing is spent."""

    code: str
    message: str


class Preparation:
    """Renders rows of one run; no I/O, so it can run while earlier requests wait for leave to be sent."""

    def __init__(
        self,
        *,
        run_uid: str,
        provider: str,
        renderer: Renderer,
        executor: Executor,
        prices: PriceBook,
        pools: Pools,
        budget: Budget,
        settings: Settings,
    ) -> None:
        self._run_uid = run_uid
        self._provider = provider
        self._renderer = renderer
        self._executor = executor
        self._prices = prices
        self._pools = pools
        self._budget = budget
        self._settings = settings

    def prepare(
        self, request: PendingRequest, now: float, earlier: Sequence[EarlierTurn] = ()
    ) -> Prepared | Unsendable:
        """The request as it will be sent, or why it never can be; ``earlier`` are the turns that it carries along."""
        try:
            fields = self._renderer.render(request.row, where=request.where)
            if request.chain is not None:
                fields = self._linked(fields, request, earlier)
        except BadRow as error:
            return Unsendable("row_invalid", str(error))
        if self._budget.is_capped and fields.get("max_output_tokens") is None and self._settings.cap_output_tokens:
            fields["max_output_tokens"] = self._settings.cap_output_tokens
        if self._settings.cache_prefix:
            fields.setdefault("prompt_cache_key", cache_key(fields))
        # Before the room for the answer is raised: that is not what the row asks.
        fingerprint = self._fingerprint(fields, request)
        if request.max_output_tokens is not None:
            fields["max_output_tokens"] = request.max_output_tokens
        if request.continuation is not None:
            fields = going_on(fields, request.continuation.fields)
        context_tokens = self._context_tokens(request)
        model = str(fields.get("model") or "")
        cap = fields.get("max_output_tokens")
        tokens = estimate_request(fields) + context_tokens
        if self._pools.pool(model).never_fits(tokens):
            return too_large(tokens)
        worst_case = self._prices.worst_case_of(
            _bounded(fields, request, context_tokens), at=now, context_tokens=context_tokens
        )
        if worst_case is None:
            worst_case = self._settings.request_bound_pusd
        refusal = self._over_budget(worst_case)
        if refusal is not None:
            return refusal
        return Prepared(
            request=request,
            number=request.number + 1,
            body=self._encode(fields, request),
            model=model,
            service_tier=_text(fields.get("service_tier")),
            window=_completion_window(fields),
            tokens=tokens,
            worst_case_pusd=worst_case,
            max_output_tokens=cap if isinstance(cap, int) else None,
            metadata=_pairs(fields.get("metadata")),
            fingerprint=fingerprint,
            new_conversation=self._new_conversation(fields, request),
            uploads=tuple(dict.fromkeys(uploads_in(fields))) if self.names_files else (),
        )

    @property
    def names_files(self) -> bool:
        """Whether files are read while requests are made ready, which is not for the event loop to do."""
        return self._renderer.names_files

    def _encode(self, fields: Mapping[str, Any], request: PendingRequest) -> bytes:
        return self._executor.encode(fields, run_uid=self._run_uid, key=request.key, number=request.number + 1)

    def _linked(
        self, fields: dict[str, Any], request: PendingRequest, earlier: Sequence[EarlierTurn]
    ) -> dict[str, Any]:
        """The request with what ties it to the turns before it."""
        match self._settings.chain_mode:
            case "conversation" if request.conversation_id is not None:
                return in_conversation(fields, request.conversation_id)
            case "previous_response" if request.earlier_response_id is not None:
                return {**fields, "previous_response_id": request.earlier_response_id}
            case "stateless":
                turns = ((self._asked(turn), turn.output_text) for turn in earlier)
                return with_history(fields, turns, most_tokens=self._settings.history_tokens)
        return fields

    def _asked(self, turn: EarlierTurn) -> Any:
        return self._renderer.render(turn.row, where=turn.where).get("input")

    def _fingerprint(self, fields: Mapping[str, Any], request: PendingRequest) -> bytes | None:
        # A turn's answer depends on the turns before it, which are not in the request.
        shares = self._settings.ask_once or self._settings.reuse_max_age_s is not None
        if not shares or request.turn or request.chain is not None:
            return None
        if "conversation" in fields:
            return None
        return fingerprint(fields, provider=self._provider)

    def _new_conversation(self, fields: Mapping[str, Any], request: PendingRequest) -> NewConversation | None:
        if request.chain is None or request.conversation_id or self._settings.chain_mode != "conversation":
            return None
        return NewConversation(request.chain, lambda made: self._encode(in_conversation(fields, made), request))

    def _context_tokens(self, request: PendingRequest) -> int:
        """What the model reads again that is not in the request itself."""
        if request.continuation is not None:
            return request.continuation.context_tokens
        carried = request.earlier_response_id is None or self._settings.chain_mode == "stateless"
        return 0 if carried else request.earlier_tokens

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
    """Why a request with so many tokens can never be sent."""
    return Unsendable(
        "request_too_large", f"the request needs about {tokens} tokens, more than the limit of a whole minute"
    )


def _bounded(fields: Mapping[str, Any], request: PendingRequest, context_tokens: int) -> Mapping[str, Any]:
    """The request without what points to earlier turns, where the tokens of those are known.

    They are not where the provider did not report the usage of the turn before.
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
    return orjson.dumps(metadata).decode() if isinstance(metadata, dict) and metadata else None


def _text(value: Any) -> str | None:
    """A field as text; a row's template may have made anything of it, and the provider will refuse that."""
    return value if isinstance(value, str) else None
