"""Ctrl-C and its kin: the first asks the run to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from orchestrator.core.errors import ExitCode

__all__ = ["Interruption"]

_SIGNALS = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}
# What is on disk is true at any time, so a run that does not stop in time can simply be ended.
_STOP_TIMEOUT_S = 4.0
# One stop may come as several signals: `timeout` and process managers send a second one, and a terminal and a parent
# process may both pass on the same Ctrl-C.
_ONE_STOP_S = 1.0
_SHOW_CURSOR = "\x1b[?25h"


class Interruption:
    """Handles signals during a run; ``code`` is the exit code of the first one.

    Those within a second of it are the same stop; a later one ends the process at once. After the first signal the
    process ends within five seconds, unless ``disarm`` is called.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.code: ExitCode | None = None
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._first_at = 0.0
        self._last_resort: threading.Timer | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        # Handlers of Python rather than of the event loop: they run even while the loop is busy.
        # Under nohup a hang-up must be ignored.
        handled = [
            number for number in _SIGNALS if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
        ]
        self._before = {number: signal.signal(number, self._on_signal) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def disarm(self) -> None:
        """The run ended in time: do not end the process while the rest is written."""
        if self._last_resort:
            self._last_resort.cancel()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.code is not None:
            if time.monotonic() - self._first_at < _ONE_STOP_S:
                return
            _end(_SIGNALS[signal.Signals(number)], "ended at once; what is on disk is safe")
        self._first_at = time.monotonic()
        self.code = code = _SIGNALS[signal.Signals(number)]
        self._last_resort = threading.Timer(
            _STOP_TIMEOUT_S, _end, (code, "stopping took too long, so the process was ended; what is on disk is safe")
        )
        self._last_resort.daemon = True
        self._last_resort.start()
        self._loop.call_soon_threadsafe(self._stop)


def _end(code: int, message: str) -> None:
    """End the process and touch nothing: what was interrupted may hold buffers and locks."""
    cursor = _SHOW_CURSOR if os.isatty(2) else ""
    try:
        os.write(2, f"{cursor}\n{message}\n".encode())
    except OSError:
        pass
    finally:
        os._exit(code)
