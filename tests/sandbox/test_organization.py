"""The organization's costs and usage agree with the sandbox's ledger, and come in pages of days."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.organization import OrganizationClient
from orchestrator.provider.provider_account import ProviderAccount
from orchestrator.provider.transport import Endpoint
from orchestrator.testing import FakeClock

from .callers import Caller, Start

pytestmark = pytest.mark.anyio

DAY = 86_400


async def asked(caller: Caller, what: str, **query: Any) -> Any:
    reply = await caller.http.get(f"/organization/{what}", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def three_days(caller: Caller, clock: FakeClock) -> int:
    """Ends one response on each of three days, the second with another model; returns the first day."""
    first = int(clock.now() // DAY)
    for model in ("gpt-5-mini", "gpt-5", "gpt-5-mini"):
        created = await caller.created(model=model)
        clock.advance(60)
        assert (await caller.seen(created["id"]))["status"] == "completed"
        clock.advance(DAY - 60)
    return first


async def test_costs_and_usage_are_those_of_the_ledger(start: Start, clock: FakeClock) -> None:
    caller = await start()
    first = await three_days(caller, clock)
    since = {"start_time": first * DAY, "end_time": (first + 3) * DAY}
    ledger = await caller.ledger()
    costs = await asked(caller, "costs", **since)
    amounts = [result["amount"]["value"] for bucket in costs["data"] for result in bucket["results"]]
    assert len(amounts) == 3
    assert sum(map(Decimal, map(str, amounts))) == Decimal(ledger["cost_usd"])
    usage = await asked(caller, "usage/completions", **since, **{"group_by[]": "model"})
    results = [bucket["results"] for bucket in usage["data"]]
    assert [[each["model"].rpartition("-20")[0] for each in day] for day in results] == [
        ["gpt-5-mini"],
        ["gpt-5"],
        ["gpt-5-mini"],
    ]
    assert sum(day[0]["input_tokens"] for day in results) == ledger["usage"]["input_tokens"]


async def test_running_responses_do_not_count_and_days_come_in_pages(start: Start, clock: FakeClock) -> None:
    caller = await start()
    first = await three_days(caller, clock)
    await caller.created()
    one = await asked(caller, "costs", start_time=first * DAY, limit=2)
    assert (len(one["data"]), one["has_more"]) == (2, True)
    two = await asked(caller, "costs", start_time=first * DAY, limit=2, page=one["next_page"])
    assert ([len(day["results"]) for day in two["data"]], two["has_more"], two["next_page"]) == ([1], False, None)
    assert (await caller.http.get("/organization/costs")).status_code == 400


async def test_the_client_reads_every_page(start: Start, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"/organization/costs": 1, "/organization/usage/completions": 2}
    monkeypatch.setattr("orchestrator.provider.organization._MOST_BUCKETS", pages)
    caller = await start()
    first = await three_days(caller, clock)
    transport = AsyncioTransport(Endpoint(base_url=caller.base_url, headers={"Authorization": "Bearer sk-admin"}))
    client = OrganizationClient(transport)
    days = [datetime.fromtimestamp(day * DAY, UTC).date().isoformat() for day in (first, first + 2)]
    account = await client.account(*days)
    await client.aclose()
    assert isinstance(account, ProviderAccount), account
    assert (len(account.costs or ()), len(account.usage or ()), len(account.days)) == (3, 3, 3)
