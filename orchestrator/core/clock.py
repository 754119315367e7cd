"""Clocks are passed in: the system clock in a run, a fake one in tests."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol

import anyio

__all__ = ["AheadClock", "Clock", "Signal", "SystemClock"]


class Signal:
    """Wakes the one task that waits for it; a ``set`` before the wait is not lost."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_set(self) -> bool:
        """Whether it was set, and the task that waits for it has not run since."""
        return self._is_set

    def set(self) -> None:
        """Wake the task that waits, or the next one that does."""
        if not self._is_set:
            self._is_set = True
            self._wake()

    async def wait(self, longest_s: float | None = None) -> None:
        """Wait until it is set, for at most ``longest_s`` seconds, and clear it."""
        if self._is_set or (longest_s is not None and longest_s <= 0.0):
            await asyncio.sleep(0)
        else:
            await self._sleep(longest_s)
        self._is_set = False

    async def _sleep(self, longest_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        # Rounded up to milliseconds, the resolution of uvloop: a timer that fires early would make the caller spin.
        timer = None if longest_s is None else loop.call_later(math.ceil(longest_s * 1000) / 1000, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Clock(Protocol):
    """Seconds since the Unix epoch, and ways to wait for a time."""

    def now(self) -> float:
        """The current time."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Wait until the given time; returns at once if it has passed."""
        ...

    async def wait(self, signal: Signal, until: float | None) -> None:
        """Wait for the signal, at most until the given time (``None``: without a limit)."""
        ...


class SystemClock:
    """Wall-clock time that never jumps: read once, then advanced by the monotonic clock.

    Otherwise a step of the system clock during a run (NTP, a suspended laptop, an operator) would fire every
    deadline at once, or none for an hour.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()

    async def sleep_until(self, when: float) -> None:
        await anyio.sleep(max(0.0, when - self.now()))

    async def wait(self, signal: Signal, until: float | None) -> None:
        await signal.wait(None if until is None else until - self.now())


class AheadClock:
    """A clock that is ``by_s`` seconds ahead of another."""

    def __init__(self, clock: Clock, by_s: float) -> None:
        self._clock = clock
        self._by_s = by_s

    def now(self) -> float:
        return self._clock.now() + self._by_s

    async def sleep_until(self, when: float) -> None:
        await self._clock.sleep_until(when - self._by_s)

    async def wait(self, signal: Signal, until: float | None) -> None:
        await self._clock.wait(signal, None if until is None else until - self._by_s)
