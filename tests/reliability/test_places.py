"""A server with few places for open responses is kept busy, and its refusals are no rate limit."""

from __future__ import annotations

import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode
from orchestrator.policy.rate_limits.places import OpenPlaces

from .gateway import Call, error
from .rehearsal import Rehearse

pytestmark = pytest.mark.anyio

# No response ends before its create is answered.
SLOW = {"queue": 10, "run": 20}


class FewPlaces:
    """Refuses a create while so many responses are open, in words of its own."""

    def __init__(self, places: int, refusal: tuple[int, str] = (400, "Background queue is full (4).")) -> None:
        self.places = places
        self.refusal = refusal
        self.taken: set[str] = set()
        self.refused = 0

    def __call__(self, call: Call) -> Response | None:
        if call.kind == "create":
            if len(self.taken) >= self.places:
                self.refused += 1
                return error(self.refusal[0], None, self.refusal[1])
            self.taken.add(call.key or "")
        elif call.kind == "poll":
            # Its next poll finds it ended; a place is free from the first poll on.
            self.taken.discard(call.key or "")
        return None


@pytest.mark.parametrize(
    ("refusal", "provider"),
    [
        ((400, "Background queue is full (4)."), {"profile": "ogx"}),
        ((429, "Too many concurrent requests."), {"errors": [{"text": "too many concurrent", "class": "full"}]}),
        ((503, "No slot available."), {"errors": [{"status": 503, "text": "no slot", "class": "full"}]}),
    ],
)
async def test_a_full_server_is_no_rate_limit(
    rehearse: Rehearse, refusal: tuple[int, str], provider: dict[str, object]
) -> None:
    server = FewPlaces(4, refusal)
    at = await rehearse(rows=16, script=server, provider=provider, sandbox={"latency": SLOW})
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.summary.attempts == account.accepted == 16
    assert account.summary.rate_limited == 0
    # The burst at the start, and little from then on.
    assert 0 < server.refused < 60


async def test_nothing_of_it_is_remembered_as_a_speed(rehearse: Rehearse) -> None:
    server = FewPlaces(4)
    at = await rehearse(rows=12, script=server, provider={"profile": "ogx"}, sandbox={"latency": SLOW})
    await at.run()
    async with at.orchestrator() as orchestrator:
        reader = await orchestrator._open_reader()
        learned = await reader.recall(f"limits:{at.config.provider.base_url}")
    assert learned is not None
    assert b'"pace":null' in learned


async def test_a_server_whose_places_others_have_taken_is_asked_now_and_then(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        taken = call.kind == "create" and call.since_first_s < 60
        return error(400, None, "The queue is full.") if taken else None

    at = await rehearse(rows=6, script=script, provider={"profile": "ogx"})
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.summary.attempts == 6
    assert at.gateway is not None
    assert len(at.gateway.of("create")) < 40


def test_each_refusal_gives_up_one_place() -> None:
    places = OpenPlaces(2000)
    in_flight = 130
    for _ in range(20):
        places.full(1.0, in_flight)
        in_flight -= 1
    assert places.count(1.0) == 110


def test_a_place_is_tried_again_now_and_then() -> None:
    places = OpenPlaces(20)
    places.full(0.0, 11)
    assert [places.count(at) for at in (0.0, 9.0, 10.0, 11.0, 20.0, 30.0)] == [10, 10, 11, 11, 12, 13]


def test_the_last_place_is_never_given_up() -> None:
    places = OpenPlaces(20)
    places.full(0.0, 1)
    assert [places.count(at) for at in (0.0, 4.9, 5.0)] == [0, 0, 1]


async def test_a_single_refusal_waits_as_long_as_it_was_asked(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        first = call.kind == "create" and call.key == "row-3" and not asked
        if call.kind == "create" and call.key == "row-3":
            asked.append(call.at)
        return error(429, "rate_limit_exceeded", retry_after="20") if first else None

    asked: list[float] = []
    at = await rehearse(rows=6, script=script)
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.summary.attempts == 6
    [first, second] = asked
    assert second - first >= 20


@pytest.mark.parametrize("kind", ["429 of a poll", "503 of a create"])
async def test_other_refusals_wait_as_long_too(rehearse: Rehearse, kind: str) -> None:
    def script(call: Call) -> Response | None:
        wanted = "poll" if kind.endswith("poll") else "create"
        if call.kind != wanted or call.key != "row-3":
            return None
        asked.append(call.at)
        status = int(kind[:3])
        return error(status, None, retry_after="20") if len(asked) == 1 else None

    asked: list[float] = []
    at = await rehearse(rows=6, script=script, sandbox={"latency": SLOW})
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert asked[1] - asked[0] >= 20
