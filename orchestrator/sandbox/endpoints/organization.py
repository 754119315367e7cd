"""The organisation's account as its administrators see it: costs and usage by the day, from the same records.

``GET /v1/organization/costs`` and ``GET /v1/organization/usage/completions``, in pages of buckets of a day. A
response is booked on the day on which it ended.
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
from orchestrator.sandbox.endpoints.replies import json_reply
from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.storage.ledger import Entry, entry_of
from orchestrator.sandbox.storage.response_store import Archive

__all__ = ["OrganizationCalls"]

Json: TypeAlias = Any

_DAY_S = 86_400
_USUAL_BUCKETS = 7


class OrganizationCalls:
    """Answers for the organisation; any key will do here."""

    def __init__(self, archive: Archive, clock: Clock, prices: PriceBook) -> None:
        self._archive = archive
        self._clock = clock
        self._prices = prices

    async def costs(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/organization/costs: what was spent, by the day."""
        return json_reply(_page(await self._by_day(), request.query_params, _costs))

    async def usage(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/organization/usage/completions: tokens by the day; with `group_by[]=model` by model, too."""
        by_model = "model" in request.query_params.getlist("group_by[]")
        return json_reply(
            _page(await self._by_day(), request.query_params, lambda entries: _usage(entries, by_model=by_model))
        )

    async def _by_day(self) -> Mapping[int, list[Entry]]:
        await anyio.to_thread.run_sync(self._prices.load)
        now = self._clock.now()
        days: defaultdict[int, list[Entry]] = defaultdict(list)
        async for record in self._archive.records():
            entry = entry_of(record, now, self._prices)
            if entry.ended_at is not None and entry.usage is not None:
                days[int(entry.ended_at // _DAY_S)].append(entry)
        return days


def _page(
    days: Mapping[int, list[Entry]], query: Mapping[str, str], results: Callable[[Sequence[Entry]], Json]
) -> Json:
    """The buckets from ``start_time`` to ``end_time``, from the ``page`` on, as many as ``limit`` allows."""
    first, last = _seconds(query, "start_time") // _DAY_S, max(days, default=0)
    if "end_time" in query:
        last = (_seconds(query, "end_time") - 1) // _DAY_S
    start = int(query.get("page", "page_0").removeprefix("page_"))
    wanted = range(first + start, last + 1)
    shown = wanted[: int(query.get("limit", _USUAL_BUCKETS))]
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
