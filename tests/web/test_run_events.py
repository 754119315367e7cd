"""The latest events of a run, and the place of a row in the queue."""

from __future__ import annotations

import httpx
import pytest

from orchestrator.stores.pulses import Pulse
from orchestrator.web.run_events import latest_happenings
from tests.stores.builders import Harness


def pulse(at: float, *, failed: int = 0, rate_limited: int = 0) -> Pulse:
    return Pulse(
        at=at, settled=failed, failed=failed, in_flight=0, attempts=0, polls=0, rate_limited=rate_limited, cost_pusd=0
    )


def shown(*pulses: Pulse) -> list[tuple[float, str, int]]:
    return [(each.at, each.what, each.number) for each in latest_happenings(pulses)]


def test_failures_and_rate_limits_are_shown_the_newest_first_and_once() -> None:
    pulses = [pulse(0), pulse(1, failed=1), pulse(5, failed=3, rate_limited=2), pulse(50, failed=4, rate_limited=2)]
    assert shown(*pulses) == [
        (50, "rows failed", 1),
        (5, "calls were rate-limited", 2),
        (5, "rows failed", 3),
    ]
    # A retry takes failures back, which is no event.
    assert shown(pulse(0, failed=5), pulse(1, failed=2)) == []
    assert shown() == shown(pulse(0, failed=3)) == []


def test_a_time_without_samples_is_shown_and_the_list_is_bounded() -> None:
    assert shown(pulse(0), pulse(100)) == [(100, "no sample", 100)]
    assert len(shown(*(pulse(100.0 * number, failed=number) for number in range(50)))) == 8


@pytest.mark.anyio
async def test_a_pending_row_says_how_many_are_sent_before_it(harness: Harness, client: httpx.AsyncClient) -> None:
    rows = await harness.add(5)
    await harness.succeed(rows[0])
    shown = (await client.get("/run/demo/row/row-3.json")).json()
    assert shown["queue"] == 2
    assert "2 rows of this run are sent before it" in (await client.get("/run/demo/row/row-3")).text
    assert "1 row of this run is sent before it" in (await client.get("/run/demo/row/row-2")).text
    assert (await client.get("/run/demo/row/row-0.json")).json()["queue"] is None
