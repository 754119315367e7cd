"""The fast clock: the same time for all its users, only faster."""

from __future__ import annotations

import time

import pytest

from orchestrator.core.clock import Signal
from orchestrator.testing import FastClock

pytestmark = pytest.mark.anyio


async def test_an_hours_sleep_ends_soon() -> None:
    clock = FastClock(36_000)
    began, really = clock.now(), time.monotonic()
    await clock.sleep_until(began + 3600)
    assert clock.now() >= began + 3600
    assert 0.1 <= time.monotonic() - really < 600


async def test_it_starts_at_the_present_time() -> None:
    assert FastClock(1).now() == pytest.approx(time.time(), abs=60)


async def test_a_signal_or_the_time_ends_a_wait() -> None:
    clock, signal = FastClock(36_000), Signal()
    began = clock.now()
    await clock.wait(signal, began + 3600)
    assert clock.now() >= began + 3600
    signal.set()
    await clock.wait(signal, None)
    signal.set()
    await clock.wait(signal, clock.now() + 36_000 * 60)
