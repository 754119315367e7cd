"""For tests of code that uses this package: a clock that moves only on request, and one that runs fast."""

from __future__ import annotations

import heapq
import time

import anyio
import anyio.lowlevel

from orchestrator.core.clock import Signal

__all__ = ["FakeClock", "FastClock"]


class FakeClock:
    """A clock whose time stands still until it is advanced; then it wakes exactly the waits that are due."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._order = 0
        self._slept = Signal()

    def now(self) -> float:
        return self._now

    async def sleep_until(self, when: float) -> None:
        if when <= self._now:
            await anyio.lowlevel.checkpoint()
            return
        await self._sleeper(when).wait()

    async def wait(self, signal: Signal, until: float | None) -> None:
        if until is None:
            await signal.wait()
            return
        if until <= self._now:
            await anyio.lowlevel.checkpoint()
            return
        due = self._sleeper(until)
        async with anyio.create_task_group() as tasks:

            async def first(wait: anyio.Event | Signal) -> None:
                await wait.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(first, signal)
            tasks.start_soon(first, due)

    async def advance_to_next(self) -> float:
        """Wait until a task sleeps, jump to the first deadline, and return how many seconds that was."""
        while not self._sleepers:
            await self._slept.wait()
        return self.advance(self._sleepers[0][0] - self._now)

    def advance(self, seconds: float) -> float:
        """Advance the time and wake every wait that is due."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()
        return seconds

    def _sleeper(self, when: float) -> anyio.Event:
        self._order += 1
        event = anyio.Event()
        heapq.heappush(self._sleepers, (when, self._order, event))
        self._slept.set()
        return event


class FastClock:
    """The system's time, ``speed`` times as fast: at 60, an hour's wait takes a minute.

    For runs against real sockets and files, which need real time too. Waits that do not use a clock, such as the
    timeouts of HTTP, keep their speed. Give all parts of a test the same clock, ``running_sandbox`` included.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began = time.time()
        self._counted_from = time.monotonic()

    def now(self) -> float:
        return self._began + (time.monotonic() - self._counted_from) * self._speed

    async def sleep_until(self, when: float) -> None:
        await anyio.sleep(self._really(when))

    async def wait(self, signal: Signal, until: float | None) -> None:
        await signal.wait(None if until is None else self._really(until))

    def _really(self, until: float) -> float:
        """The seconds of real time that a wait takes."""
        return max(0.0, until - self.now()) / self._speed
