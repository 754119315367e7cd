"""The ledger: its sums, its duplicates, and what a client has seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.model import ToolUse, Usage
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.provider.wire import parse_response
from orchestrator.sandbox.storage.ledger import Entry, Ledger
from orchestrator.testing import FakeClock

from .callers import Caller, Start

pytestmark = pytest.mark.anyio

USAGE = Usage(input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=4, total_tokens=110)
ENTRY = Entry(
    id="resp_1",
    run="r",
    key="k",
    attempt="1",
    idempotency_key=None,
    model="gpt-5",
    service_tier="default",
    status="completed",
    usable=True,
    usage=USAGE,
    tool_use=ToolUse(web_searches=2),
    cost_pusd=7,
    created_at=100.0,
    ended_at=110.0,
    reply_lost_by=None,
    delivered="completed",
)


def summary(*entries: Entry) -> Any:
    ledger = Ledger()
    for entry in entries:
        ledger.add(entry)
    return ledger.summary({})


def test_sums_cover_all_usage_and_all_that_was_delivered() -> None:
    unseen = replace(ENTRY, id="resp_2", key="b", delivered=None)
    unpriced = replace(ENTRY, id="resp_3", key="c", cost_pusd=None)
    failed = replace(ENTRY, id="resp_4", key="d", status="failed", usage=None, cost_pusd=None, delivered="failed")
    account = summary(ENTRY, unseen, unpriced, failed)
    assert account["responses"] == {"completed": 3, "failed": 1}
    assert account["usage"]["total_tokens"] == 330
    assert (account["cost_pusd"], account["cost_usd"], account["unpriced"]) == (14, "0.000000000014", 1)
    assert account["tool_use"] == {
        "web_searches": 6,
        "file_searches": 0,
        "code_sessions": 0,
        "image_input_tokens": 0,
        "image_output_tokens": 0,
    }
    seen = account["seen_by_client"]
    assert seen["responses"] == {"completed": 2, "failed": 1}
    assert (seen["usage"]["total_tokens"], seen["cost_pusd"], seen["unpriced"]) == (220, 7, 1)


def test_a_completion_that_was_not_delivered_is_not_seen() -> None:
    late = replace(ENTRY, delivered="cancelled")
    seen = summary(late)["seen_by_client"]
    assert (seen["responses"], seen["cost_pusd"]) == ({"cancelled": 1}, 0)


@pytest.mark.parametrize(
    ("first", "second", "duplicates"),
    [
        ({}, {}, (0, 0, 1)),
        ({"ended_at": None, "usable": False}, {}, (1, 0, 0)),
        ({"ended_at": 130.0}, {}, (1, 0, 1)),
        ({"reply_lost_by": "hang"}, {}, (0, 1, 1)),
        ({"reply_lost_by": "hang", "ended_at": 130.0}, {}, (1, 1, 1)),
        ({"usable": False}, {}, (0, 0, 0)),
        ({"usable": False}, {"usable": False}, (0, 0, 0)),
        ({}, {"key": "other"}, (0, 0, 0)),
        ({}, {"run": "other"}, (0, 0, 0)),
        ({"run": None}, {"run": None}, (0, 0, 0)),
    ],
)
def test_duplicates(first: dict[str, Any], second: dict[str, Any], duplicates: tuple[int, int, int]) -> None:
    again = replace(ENTRY, id="resp_2", created_at=120.0, ended_at=130.0)
    account = summary(replace(ENTRY, **first), replace(again, **second))["duplicates"]
    assert (account["while_open"], account["after_lost_reply"], account["usable"]) == duplicates


async def create_for(caller: Caller, key: str, **fields: Any) -> Any:
    metadata = {"orchestrator_run": "run-1", "orchestrator_key": key, "orchestrator_attempt": "1"}
    return await caller.created(metadata=metadata, **fields)


async def test_it_agrees_with_the_usage_in_the_replies(start: Start, clock: FakeClock) -> None:
    caller = await start()
    ids = [(await create_for(caller, str(n), model="gpt-4.1-nano"))["id"] for n in range(3)]
    clock.advance(30)
    usages = [(await caller.seen(each))["usage"] for each in ids[:2]]

    account = await caller.ledger()
    assert account["simulated"] is True
    assert account["creates"] == {"calls": 3, "accepted": 3, "refused": {"total": 0}}
    assert account["polls"] == {"calls": 2, "refused": {"total": 0}}
    assert (account["requests"], account["responses"]) == (3, {"completed": 3})
    seen = account["seen_by_client"]
    assert seen["usage"]["total_tokens"] == sum(usage["total_tokens"] for usage in usages)
    # gpt-4.1-nano costs 0.10 and 0.40 dollars per million tokens: 100,000 and 400,000 picodollars each.
    cost = sum(100_000 * usage["input_tokens"] + 400_000 * usage["output_tokens"] for usage in usages)
    assert seen["cost_pusd"] == cost
    assert account["cost_pusd"] == cost * 3 // 2


async def test_cached_tokens_are_charged_as_cached(start: Start, clock: FakeClock) -> None:
    caller = await start()
    text = "The harvest was good this year. " * 400
    ids = [(await caller.created(model="gpt-4.1-nano", input=text))["id"] for _ in range(2)]
    clock.advance(30)
    first, second = [(await caller.seen(each))["usage"] for each in ids]
    cached = second["input_tokens_details"]["cached_tokens"]
    assert (first["input_tokens_details"]["cached_tokens"], cached) == (0, 1024)
    # A cached token costs a quarter of a fresh one.
    fresh = 2 * first["input_tokens"] - cached
    cost = 100_000 * fresh + 25_000 * cached + 400_000 * (first["output_tokens"] + second["output_tokens"])
    assert (await caller.ledger())["cost_pusd"] == cost


async def test_newer_models_bill_cache_writes(start: Start, clock: FakeClock) -> None:
    caller = await start()
    text = "The harvest was good this year. " * 400
    ids = [(await caller.created(model="gpt-6-luna", input=text))["id"] for _ in range(2)]
    plain = await caller.created(model="gpt-6-luna", input=text, prompt_cache_options={"mode": "explicit"})
    clock.advance(30)
    details = [(await caller.seen(each))["usage"]["input_tokens_details"] for each in (*ids, plain["id"])]
    assert details == [
        {
            "cached_tokens": 0,
            "cache_write_tokens": 1024,
            "cache_write_tokens_details": {"ttl_30m_tokens": 1024, "ttl_12h_tokens": 0},
        },
        {"cached_tokens": 1024, "cache_write_tokens": 0},
        {"cached_tokens": 0, "cache_write_tokens": 0},
    ]


FILES = {"type": "file_search", "vector_store_ids": ["vs_1"]}
# The ledger bills by its own arithmetic: what a client charges for the same responses must come to the same sum.
BILLED: list[tuple[str, dict[str, Any]]] = [
    ("a twelve-hour cache", {"model": "gpt-6-luna", "prompt_cache_options": {"ttl": "12h"}}),
    ("a half-hour cache", {"model": "gpt-6-luna", "prompt_cache_options": {"ttl": "30m"}}),
    ("a window of 2 hours", {"model": "gpt-6-luna", "background_options": {"completion_window": "2h"}}),
    (
        "a window of 8 hours and a twelve-hour cache",
        {
            "model": "gpt-6.1-sol",
            "background_options": {"completion_window": "8h"},
            "prompt_cache_options": {"ttl": "12h"},
        },
    ),
    ("a search that opens a page", {"tools": [{"type": "web_search", "search_context_size": "high"}]}),
    ("a search paid in blocks", {"model": "gpt-4o-mini", "tools": [{"type": "web_search"}]}),
    ("a preview search", {"model": "gpt-4.1", "tools": [{"type": "web_search_preview"}]}),
    ("files and code", {"tools": [FILES, {"type": "code_interpreter", "container": {"type": "auto"}}]}),
    ("images", {"tools": [{"type": "image_generation", "model": "gpt-image-1"}]}),
    ("smaller images", {"tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}]}),
]


@pytest.mark.parametrize(("what", "fields"), BILLED, ids=[what for what, _ in BILLED])
async def test_the_ledger_and_a_client_come_to_the_same_cost(
    start: Start, clock: FakeClock, what: str, fields: dict[str, Any]
) -> None:
    caller = await start()
    text = "The harvest was good this year. " * 400
    request: dict[str, Any] = {"model": "gpt-6-luna", "input": text, "background": True, **fields}
    created = await caller.created(**request)
    clock.advance(30)
    response = parse_response((await caller.poll(created["id"])).content)
    cost_pusd = (await caller.ledger())["cost_pusd"]
    charge = PriceBook().charge_response(
        response,
        requested_model=request["model"],
        requested_tier=request.get("service_tier"),
        at=created["created_at"],
        window=request.get("background_options", {}).get("completion_window"),
    )
    assert cost_pusd == charge.cost_pusd
    assert charge.cost_pusd, what
    assert charge.estimated is ("window" in what or "blocks" in what)


async def test_images_of_an_unnamed_model_have_an_unknown_price(start: Start, clock: FakeClock) -> None:
    caller = await start()
    created = await caller.created(tools=[{"type": "image_generation"}])
    clock.advance(30)
    response = parse_response((await caller.poll(created["id"])).content)
    charge = PriceBook().charge_response(
        response, requested_model=None, requested_tier=None, at=created["created_at"]
    )
    assert (charge.cost_pusd, charge.upper_bound_pusd) == (None, None)
    assert charge.tool_use.image_output_tokens > 0
    assert (await caller.ledger())["unpriced"] == 1


async def test_an_unknown_price_is_not_zero(start: Start, clock: FakeClock) -> None:
    caller = await start(models=["my-own"])
    await caller.created(model="my-own")
    clock.advance(30)
    account = await caller.ledger()
    assert (account["cost_pusd"], account["unpriced"]) == (0, 1)


async def test_a_cancelled_response_is_not_billed(start: Start, clock: FakeClock) -> None:
    caller = await start()
    response = await caller.created()
    await caller.cancel(response["id"])
    clock.advance(30)
    account = await caller.ledger()
    assert (account["responses"], account["cost_pusd"], account["unpriced"]) == ({"cancelled": 1}, 0, 0)


@pytest.mark.parametrize(
    ("fault", "usable"),
    [
        (None, True),
        ("refusal", False),
        ("empty_output", False),
        ("incomplete", False),
        ("failed_server_error", False),
    ],
)
async def test_an_answer_is_usable_if_it_answers_the_request(
    start: Start, clock: FakeClock, fault: str | None, usable: bool
) -> None:
    caller = await start(faults={fault: 1} if fault else {})
    for _ in range(2):
        await create_for(caller, "k")
        clock.advance(30)
    assert (await caller.ledger())["duplicates"]["usable"] == usable


async def test_each_response_is_a_line(start: Start, clock: FakeClock) -> None:
    caller = await start()
    ids = [(await create_for(caller, str(n)))["id"] for n in range(3)]
    clock.advance(30)
    await caller.seen(ids[1])
    reply = await caller.http.get(
        caller.base_url.replace("/v1/", "/_ledger/responses"), headers={"authorization": ""}
    )
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert [(line["id"], line["run"], line["key"]) for line in lines] == [
        (each, "run-1", str(n)) for n, each in enumerate(ids)
    ]
    assert [line["delivered"] for line in lines] == [None, "completed", None]
    assert sum(line["cost_pusd"] for line in lines) == (await caller.ledger())["cost_pusd"]
