"""The organization's account: read from files of every shape, and fetched page by page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.provider.organization import UnreadableAccount, read_account
from orchestrator.provider.provider_account import ReportedCost, ReportedUsage

START = 1_795_305_600  # 22 November 2026, 00:00 UTC
DAY = 86_400


def bucket(*results: dict[str, Any], start: int = START, length: int = DAY) -> dict[str, Any]:
    return {"object": "bucket", "start_time": start, "end_time": start + length, "results": list(results)}


def page(*buckets: dict[str, Any]) -> dict[str, Any]:
    return {"object": "page", "data": list(buckets), "has_more": False, "next_page": None}


def cost(value: Any, **changes: Any) -> dict[str, Any]:
    return {"object": "organization.costs.result", "amount": {"value": value, "currency": "usd"}, **changes}


def usage(**changes: Any) -> dict[str, Any]:
    counts = {"input_tokens": 1_000, "output_tokens": 500, "input_cached_tokens": 800, "num_model_requests": 5}
    return {"object": "organization.usage.completions.result", **counts, **changes}


def read(value: Any) -> Any:
    return read_account(json.dumps(value).encode())


def test_amounts_are_exact_as_numbers_and_as_texts() -> None:
    found = read(
        page(bucket(cost(0.06, line_item="gpt-5-mini, input"), cost("1.000000000001")), bucket(start=START + DAY))
    )
    assert found.costs == (
        ReportedCost(day="2026-11-22", amount_pusd=60_000_000_000, line_item="gpt-5-mini, input"),
        ReportedCost(day="2026-11-22", amount_pusd=10**12 + 1),
    )
    assert found.usage is None
    assert found.days == {"2026-11-22", "2026-11-23"}


def test_usage_is_read_with_or_without_groups() -> None:
    found = read(page(bucket(usage(), usage(model="gpt-5-mini", batch=False, service_tier="default"))))
    plain = {"requests": 5, "input_tokens": 1_000, "cached_tokens": 800, "output_tokens": 500}
    assert found.usage == (
        ReportedUsage(day="2026-11-22", model=None, **plain),
        ReportedUsage(day="2026-11-22", model="gpt-5-mini", **plain),
    )


def test_several_pages_make_one_account() -> None:
    pages = [page(bucket(cost(1))), page(bucket(usage()))]
    as_list = read(pages)
    as_lines = read_account("".join(json.dumps(each, indent=None) + "\n" for each in pages).encode())
    assert as_list == as_lines
    assert (len(as_list.costs), len(as_list.usage)) == (1, 1)


def test_hourly_usage_counts_for_its_day() -> None:
    hours = [bucket(usage(), start=START + 3600 * hour, length=3600) for hour in (0, 23, 24)]
    assert [each.day for each in read(page(*hours)).usage] == ["2026-11-22", "2026-11-22", "2026-11-23"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("{", "it is not JSON"),
        ('{"object": "list"}', "data is not as in a page"),
        ("[1]", "the document is not as in a page"),
        (json.dumps(page(bucket(cost("much")))), "a result of 2026-11-22 has no readable amount.value"),
        (json.dumps(page(bucket(usage(input_tokens=-1)))), "no readable input_tokens"),
        (json.dumps(page(bucket(cost(1, amount={"value": 1, "currency": "eur"})))), "amounts are in eur"),
        (json.dumps(page(bucket(cost(1), length=7 * DAY))), "buckets are longer than a day"),
        (json.dumps(page(bucket({"object": "organization.usage.images.result"}))), "neither costs nor usage"),
    ],
)
def test_other_data_is_refused_with_the_reason(value: str, why: str) -> None:
    with pytest.raises(UnreadableAccount, match=why):
        read_account(value.encode())
