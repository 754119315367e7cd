"""Rate limits: what is accepted, what the headers report, and what a 429 says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sandbox.faults.api_errors import ErrorReply
from orchestrator.sandbox.sandbox_settings import AccountLimits
from orchestrator.sandbox.simulation.account_limits import Allowance, format_duration
from orchestrator.testing import FakeClock

from .callers import Start

pytestmark = pytest.mark.anyio


async def test_the_headers_report_what_is_left(start: Start) -> None:
    caller = await start(limits={"requests_per_minute": 60, "tokens_per_minute": 6000})
    counted = (await caller.http.post("/responses/input_tokens", json={"model": "gpt-5", "input": "Hi"})).json()
    headers = (await caller.create(model="gpt-5", input="Hi", max_output_tokens=100)).headers
    used = counted["input_tokens"] + 100
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert headers["x-ratelimit-limit-tokens"] == "6000"
    assert headers["x-ratelimit-remaining-tokens"] == str(6000 - used)
    assert headers["x-ratelimit-reset-tokens"] == format_duration(used / 100)


async def test_there_are_no_headers_without_limits_or_if_switched_off(start: Start) -> None:
    for limits in ({}, {"requests_per_minute": 60, "headers": False}):
        caller = await start(limits=limits)
        assert not [name for name in (await caller.create()).headers if name.startswith("x-ratelimit")]


async def test_requests_beyond_the_limit_wait(start: Start, clock: FakeClock) -> None:
    caller = await start(limits={"requests_per_minute": 6, "burst_s": 10})
    assert (await caller.create()).status_code == 200
    refused = await caller.create()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert refused.json()["error"]["type"] == "requests"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "Limit 6, Used" in refused.json()["error"]["message"]
    clock.advance(10)
    assert (await caller.create()).status_code == 200
    assert (await caller.ledger())["creates"]["refused"] == {"total": 1, "rate_limit_exceeded": 1}


async def test_the_allowance_refills_steadily(start: Start, clock: FakeClock) -> None:
    caller = await start(limits={"requests_per_minute": 60})
    left = []
    for pause in (0, 0, 0, 2, 600):
        clock.advance(pause)
        left.append((await caller.create()).headers["x-ratelimit-remaining-requests"])
    assert left == ["59", "58", "57", "58", "59"]


async def test_each_model_has_its_own_limits(start: Start) -> None:
    caller = await start(limits={"requests_per_minute": 1, "burst_s": 60})
    replies = [await caller.create(model=name) for name in ("gpt-5", "o3", "gpt-5-2025-08-07")]
    assert [reply.status_code for reply in replies] == [200, 200, 429]


async def test_a_request_that_never_fits_gets_no_retry_after(start: Start) -> None:
    caller = await start(limits={"tokens_per_minute": 1000})
    reply = await caller.create(max_output_tokens=2000)
    assert (reply.status_code, reply.json()["error"]["type"]) == (429, "tokens")
    assert reply.json()["error"]["message"].startswith("Request too large for gpt-5-mini")
    assert "retry-after" not in reply.headers


async def test_polls_have_a_limit_of_their_own(start: Start, clock: FakeClock) -> None:
    caller = await start(limits={"polls_per_minute": 1})
    response = await caller.created()
    statuses = [(await caller.poll(response["id"])).status_code for _ in range(2)]
    assert statuses == [200, 429]
    assert (await caller.create()).status_code == 200
    clock.advance(60)
    assert (await caller.poll(response["id"])).status_code == 200


@given(
    requests=st.integers(1, 120),
    tokens=st.integers(500, 20_000),
    calls=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=20, max_size=80),
)
def test_no_minute_exceeds_its_limit(requests: int, tokens: int, calls: list[tuple[float, int]]) -> None:
    allowance = Allowance(AccountLimits(requests_per_minute=requests, tokens_per_minute=tokens, burst_s=1), now=0)
    now, let_in = 0.0, list[tuple[float, int]]()
    for pause, amount in calls:
        now += pause
        try:
            allowance.take(now, tokens=amount, model="m")
        except ErrorReply:
            continue
        let_in.append((now, amount))
    for begin, _ in let_in:
        window = [amount for at, amount in let_in if begin <= at <= begin + 60]
        # The allowance of one minute, plus the burst saved before it.
        assert len(window) <= requests * 61 / 60 + 1
        assert sum(window) <= tokens * 61 / 60 + 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.012, "12ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (90.25, "1m30.25s"), (3723, "1h2m3s")],
)
def test_durations_are_written_as_in_go(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
