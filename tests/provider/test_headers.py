"""Headers of a reply: understood exactly, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import RateLimits
from orchestrator.provider.headers import parse_rate_limits, poll_after, request_id, retry_after, should_retry

NOW = 1_764_158_832.0


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def test_all_limits() -> None:
    headers = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert parse_rate_limits(headers) == RateLimits(
        limit_requests=5000,
        limit_tokens=2_000_000,
        remaining_requests=4999,
        remaining_tokens=0,
        reset_requests_s=0.012,
        reset_tokens_s=360.0,
    )


def test_no_limits() -> None:
    assert parse_rate_limits({}) is None
    assert parse_rate_limits({"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-tokens": "-1s"}) is None


def test_the_usage_based_names_replace_the_plain_ones() -> None:
    variant = {"x-ratelimit-limit-tokens_usage_based": "300", "x-ratelimit-remaining-tokens_usage_based": "200"}
    assert parse_rate_limits(variant) == RateLimits(limit_tokens=300, remaining_tokens=200)
    plain = {"x-ratelimit-limit-tokens": "30"}
    assert parse_rate_limits(variant | plain) == RateLimits(limit_tokens=30)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("12ms", 0.012),
        ("1m30.5s", 90.5),
        ("1h2m3s", 3723),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("250μs", 250e-6),
        ("40ns", 40e-9),
        ("1m12ms", 60.012),
        ("0s", 0),
        (" 8.64s ", 8.64),
        ("60", 60),
        ("", None),
        ("-1s", None),
        ("soon", None),
        ("1s and more", None),
        ("nan", None),
        ("2026-11-21T20:00:00Z", None),
    ],
)
def test_reset_times(text: str, seconds: float | None) -> None:
    limits = parse_rate_limits({"x-ratelimit-limit-requests": "1", "x-ratelimit-reset-requests": text})
    assert limits is not None
    assert limits.reset_requests_s == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after-ms": "-5"}, None),
        ({"retry-after": http_date(NOW + 30)}, 30),
        ({"retry-after": http_date(NOW - 30)}, 0),
        ({"retry-after": "Wed, 26 Nov 2025 12:07:42 -0000"}, 30),
        ({"retry-after": "Wed, 99 Nov 2025 12:07:42 GMT"}, None),
        ({"retry-after": http_date(NOW + 3630), "date": http_date(NOW + 3600)}, 30),
        ({"retry-after": http_date(NOW + 30), "date": "yesterday"}, 30),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_retry_after_in_another_zone() -> None:
    moment = datetime.fromtimestamp(NOW, timezone(timedelta(hours=5))) + timedelta(seconds=10)
    assert retry_after({"retry-after": format_datetime(moment)}, NOW) == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "word"), [("true", True), ("false", False), (" True ", True), ("1", None), ("", None), ("maybe", None)]
)
def test_should_retry(text: str, word: bool | None) -> None:
    assert should_retry({"x-should-retry": text}) is word
    assert should_retry({}) is None


def test_poll_after_and_request_id() -> None:
    assert poll_after({"openai-poll-after-ms": "2500"}) == 2.5
    assert poll_after({"openai-poll-after-ms": "-1"}) is None
    assert poll_after({}) is None
    assert request_id({"x-request-id": "req_1"}) == "req_1"
    assert request_id({"x-request-id": ""}) is None


NAMES = [
    "retry-after",
    "retry-after-ms",
    "date",
    "x-should-retry",
    "openai-poll-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens_usage_based",
]


@given(st.dictionaries(st.sampled_from(NAMES), st.text() | st.floats().map(str) | st.integers().map(str)))
def test_no_header_raises_or_gives_a_negative_value(headers: dict[str, str]) -> None:
    limits = parse_rate_limits(headers) or RateLimits()
    found = [retry_after(headers, NOW), poll_after(headers), limits.reset_requests_s, limits.remaining_tokens]
    assert all(value is None or 0 <= value < float("inf") for value in found)
    assert should_retry(headers) in (True, False, None)
