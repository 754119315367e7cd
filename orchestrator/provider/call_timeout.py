"""The timeouts of a call through httpx, which a stop of this process does not spend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx

from orchestrator.provider.transport import was_stopped

__all__ = ["CallTimeout", "call_timeout"]


class CallTimeout:
    """Cancels a call after a silence, or at its deadline; ``received`` says that the server did something."""

    def __init__(self, scope: anyio.CancelScope, *, silence_s: float, whole_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = scope
        self._silence_s = silence_s
        now = self._loop.time()
        self._deadline = now + whole_s
        # Until the server is connected, no silence counts.
        self._received_at = self._deadline - silence_s
        self.silent = False
        self._timer_at = self._due_at
        self._timer = self._loop.call_at(self._timer_at, self._check)

    @property
    def _due_at(self) -> float:
        return min(self._received_at + self._silence_s, self._deadline)

    def received(self) -> None:
        """Start a new silence."""
        self._received_at = self._loop.time()
        if self._timer_at > self._due_at:
            self._watch()

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def pause(self) -> float:
        """Stop the time, while the call waits for us; returns what ``resume`` needs."""
        self.stop()
        return self._loop.time()

    def resume(self, paused_at: float) -> None:
        """Continue after a pause."""
        self._deadline += self._loop.time() - paused_at
        self.received()
        self._watch()

    def _watch(self) -> None:
        self._timer.cancel()
        self._timer_at = self._due_at
        self._timer = self._loop.call_at(self._timer_at, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if was_stopped(self._timer_at, now):
            # What arrived meanwhile lies in the socket, and was not read yet.
            self._received_at = now
            self._deadline = max(self._deadline, now + self._silence_s)
        if now < self._due_at:
            self._watch()
            return
        self.silent = now < self._deadline
        self._scope.cancel()


@contextmanager
def call_timeout(*, silence_s: float, whole_s: float) -> Iterator[CallTimeout]:
    """Raises ``httpx.ReadTimeout`` after a silence, and ``TimeoutError`` at the deadline."""
    with anyio.CancelScope() as scope:
        timeout = CallTimeout(scope, silence_s=silence_s, whole_s=whole_s)
        try:
            yield timeout
        finally:
            timeout.stop()
    if scope.cancelled_caught:
        raise httpx.ReadTimeout("") if timeout.silent else TimeoutError
