"""Time comes in from outside: the system's clock in a run, a fake one in tests."""

from __future__ import annotations

import time
from typing import Protocol

import anyio

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Seconds since the Unix epoch, and a way to wait for a moment."""

    def now(self) -> float: ...

    async def sleep_until(self, when: float) -> None: ...


class SystemClock:
    """Wall-clock time that never jumps: it is read once, then carried on by the monotonic clock.

    A step of the system's clock during a run (NTP, a suspended laptop, an operator) would otherwise
    fire every deadline at once, or none for an hour.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()

    async def sleep_until(self, when: float) -> None:
        await anyio.sleep(max(0.0, when - self.now()))
