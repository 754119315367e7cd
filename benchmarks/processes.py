"""Runs processes side by side, the server on one core and the measured one on another, and measures the latter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["CLIENT_CORE", "SERVER_CORE", "Broken", "Child", "Cost", "measure", "python", "start"]

_CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
SERVER_CORE = _CORES[0] if len(_CORES) > 1 else None
CLIENT_CORE = _CORES[-1] if len(_CORES) > 1 else None
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Broken(Exception):
    """A measured process failed; the message ends with its standard error."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process used from start to end, including its threads."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    started_at: float
    output: str


class Child:
    """A running process that is measured."""

    def __init__(
        self, command: Sequence[str], process: subprocess.Popen[bytes], output: IO[bytes], errors: IO[bytes]
    ) -> None:
        self._command = " ".join(command)
        self._process = process
        self._output = output
        self._errors = errors
        self._started = time.perf_counter()
        self.started_at = time.time()

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, from ``/proc``, which only Linux has."""
        if sys.platform != "linux":
            raise Broken("the CPU time of a running process can be read only on Linux")
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it has ended by itself; ``wait`` still returns its cost."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, *, codes: Sequence[int] = (0,)) -> Cost:
        """Waits for the end; raises ``Broken`` if the exit code is not in ``codes`` (a signal counts as negative)."""
        _, status, used = os.wait4(self._process.pid, 0)
        wall_s = time.perf_counter() - self._started
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise Broken(f"{self._command}: exit code {code}\n{_text(self._errors)[-2000:]}")
        return Cost(
            cpu_s=used.ru_utime + used.ru_stime,
            wall_s=wall_s,
            peak_mb=used.ru_maxrss * _RSS_UNIT / 1e6,
            started_at=self.started_at,
            output=_text(self._output),
        )


def python(*arguments: str | float | Path) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *map(str, arguments)]


@contextmanager
def start(command: Sequence[str], *, core: int | None = CLIENT_CORE) -> Iterator[Child]:
    """Starts a process pinned to a core, and kills it if it still runs at the end of the block."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with on_core(core):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            yield Child(command, process, output, errors)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()


def measure(command: Sequence[str], *, core: int | None = CLIENT_CORE) -> Cost:
    """Runs a command; raises ``Broken`` if it fails."""
    with start(command, core=core) as child:
        return child.wait()


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes started in the block run only on that core, with all their threads and children."""
    if sys.platform != "linux" or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
