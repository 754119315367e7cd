"""Time comes in from outside: the system's clock in a run, a fake one in tests."""

from __future__ import annotations

import time
from typing import Protocol

import anyio

__all__ = ["AheadClock", "Clock", "Signal", "SystemClock"]


class Signal:
    """Wakes the one task that waits for it; a call made before the wait is not lost."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


class Clock(Protocol):
    """Seconds since the Unix epoch, and ways to wait for a moment."""

    def now(self) -> float: ...

    async def sleep_until(self, when: float) -> None: ...

    async def wait(self, signal: Signal, until: float | None) -> None:
        """Wait for the signal, but no longer than until the moment given (``None``: for ever)."""
        ...


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

    async def wait(self, signal: Signal, until: float | None) -> None:
        if until is None:
            await signal.wait()
            return
        with anyio.move_on_after(max(0.0, until - self.now())):
            await signal.wait()


class AheadClock:
    """A clock that is so many seconds ahead of another."""

    def __init__(self, clock: Clock, by_s: float) -> None:
        self._clock = clock
        self._by_s = by_s

    def now(self) -> float:
        return self._clock.now() + self._by_s

    async def sleep_until(self, when: float) -> None:
        await self._clock.sleep_until(when - self._by_s)

    async def wait(self, signal: Signal, until: float | None) -> None:
        await self._clock.wait(signal, None if until is None else until - self._by_s)
