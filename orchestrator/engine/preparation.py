"""Makes a pending row ready to be sent: rendered, encoded, its tokens and its worst case reckoned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.errors import BadRow
from orchestrator.engine.work import Prepared
from orchestrator.executors.base import Executor
from orchestrator.intake.template import Renderer
from orchestrator.policy.budget import Budget
from orchestrator.policy.limits import Pools
from orchestrator.policy.prices import PriceBook
from orchestrator.policy.tokens import estimate_request
from orchestrator.stores.base import PendingRequest

__all__ = ["Preparation", "Unsendable", "too_large"]


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The request can never be sent: it fails with this code, and nothing is spent."""

    code: str
    message: str


class Preparation:
    """Renders rows of one run; no I/O, so it can run while earlier requests wait for leave to be sent."""

    def __init__(
        self, *, run_uid: str, renderer: Renderer, executor: Executor, prices: PriceBook, pools: Pools, budget: Budget
    ) -> None:
        self._run_uid = run_uid
        self._renderer = renderer
        self._executor = executor
        self._prices = prices
        self._pools = pools
        self._budget = budget

    def prepare(self, request: PendingRequest, now: float) -> Prepared | Unsendable:
        """The request as it will be sent, or why it never can be."""
        try:
            fields = self._renderer.render(request.row, where=request.where)
        except BadRow as error:
            return Unsendable("row_invalid", str(error))
        if request.max_output_tokens is not None:
            fields["max_output_tokens"] = request.max_output_tokens
        model = str(fields.get("model") or "")
        cap = fields.get("max_output_tokens")
        tokens = estimate_request(fields)
        if self._pools.pool(model).never_fits(tokens):
            return too_large(tokens)
        worst_case = self._prices.worst_case_of(fields, at=now)
        refusal = self._over_budget(worst_case)
        if refusal is not None:
            return refusal
        number = request.number + 1
        return Prepared(
            request=request,
            number=number,
            body=self._executor.encode(fields, run_uid=self._run_uid, key=request.key, number=number),
            model=model,
            service_tier=_text(fields.get("service_tier")),
            window=_completion_window(fields),
            tokens=tokens,
            worst_case_pusd=worst_case,
            max_output_tokens=cap if isinstance(cap, int) else None,
        )

    def _over_budget(self, worst_case: int | None) -> Unsendable | None:
        if not self._budget.is_capped:
            return None
        if worst_case is None:
            return Unsendable(
                "cost_unbounded",
                "under a budget every request needs a known price and max_output_tokens; this one has no bound",
            )
        if not self._budget.could_ever_fit(worst_case):
            return Unsendable("over_budget", "the worst case of this one request is more than the whole budget")
        return None


def too_large(tokens: int) -> Unsendable:
    """Why a request with so many tokens can never be sent."""
    return Unsendable(
        "request_too_large", f"the request needs about {tokens} tokens, more than the limit of a whole minute"
    )


def _completion_window(fields: Mapping[str, Any]) -> str | None:
    options = fields.get("background_options")
    return _text(options.get("completion_window")) if isinstance(options, dict) else None


def _text(value: Any) -> str | None:
    """A field as text; a row's template may have made anything of it, and the provider will refuse that."""
    return value if isinstance(value, str) else None
