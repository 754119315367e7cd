"""The calls under ``/v1/organization``: costs and usage per day, computed from the stored responses.

They reply in pages of one bucket per day. A response counts on the day on which it ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.core.money import PICODOLLARS_PER_DOLLAR
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.endpoints.json_replies import json_reply
from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.storage.ledger import Entry, entry_of
from orchestrator.sandbox.storage.response_store import ResponseStore

__all__ = ["OrganizationCalls"]

Json: TypeAlias = Any

_DAY_S = 86_400
_DEFAULT_BUCKETS = 7


class OrganizationCalls:
    """Each call takes the request; the sandbox needs no admin key for them."""

    def __init__(self, responses: ResponseStore, clock: Clock, prices: PriceBook) -> None:
        self._responses = responses
        self._clock = clock
        self._prices = prices

    async def costs(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/organization/costs: costs per day."""
        return json_reply(_page(await self._by_day(), request.query_params, _costs))

    async def usage(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/organization/usage/completions: tokens per day; with `group_by[]=model` per day and model."""
        by_model = "model" in request.query_params.getlist("group_by[]")
        return json_reply(
            _page(await self._by_day(), request.query_params, lambda entries: _usage(entries, by_model=by_model))
        )

    async def _by_day(self) -> Mapping[int, list[Entry]]:
        await anyio.to_thread.run_sync(self._prices.load)
        now = self._clock.now()
        days: defaultdict[int, list[Entry]] = defaultdict(list)
        async for record in self._responses.records():
            entry = entry_of(record, now, self._prices)
            if entry.ended_at is not None and entry.usage is not None:
                days[int(entry.ended_at // _DAY_S)].append(entry)
        return days


def _page(
    days: Mapping[int, list[Entry]], query: Mapping[str, str], results: Callable[[Sequence[Entry]], Json]
) -> Json:
    """The buckets from ``start_time`` to ``end_time``, starting at ``page``, at most ``limit``."""
    first, last = _seconds(query, "start_time") // _DAY_S, max(days, default=0)
    if "end_time" in query:
        last = (_seconds(query, "end_time") - 1) // _DAY_S
    start = int(query.get("page", "page_0").removeprefix("page_"))
    wanted = range(first + start, last + 1)
    shown = wanted[: int(query.get("limit", _DEFAULT_BUCKETS))]
    more = len(shown) < len(wanted)
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": day * _DAY_S,
                "end_time": (day + 1) * _DAY_S,
                "results": results(days.get(day, [])),
            }
            for day in shown
        ],
        "has_more": more,
        "next_page": f"page_{start + len(shown)}" if more else None,
    }


def _costs(entries: Sequence[Entry]) -> list[Json]:
    amount = sum(entry.cost_pusd or 0 for entry in entries) / PICODOLLARS_PER_DOLLAR
    cost = {"amount": {"value": amount, "currency": "usd"}, "line_item": None, "project_id": None}
    return [{"object": "organization.costs.result", **cost}] if entries else []


def _usage(entries: Iterable[Entry], *, by_model: bool) -> list[Json]:
    groups: defaultdict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.model if by_model else None].append(entry)
    return [
        {
            "object": "organization.usage.completions.result",
            "input_tokens": sum(each.usage.input_tokens for each in group if each.usage),
            "input_cached_tokens": sum(each.usage.cached_tokens for each in group if each.usage),
            "output_tokens": sum(each.usage.output_tokens for each in group if each.usage),
            "num_model_requests": len(group),
            "model": model,
        }
        for model, group in groups.items()
    ]


def _seconds(query: Mapping[str, str], name: str) -> int:
    try:
        return int(query[name])
    except (KeyError, ValueError):
        raise bad_request(f"'{name}' must be a time in Unix seconds.", code="invalid_type", param=name) from None
