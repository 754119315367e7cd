"""The responder for scenarios: started for each measurement, and asked afterwards for its counters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from benchmarks.latency import Latency
from benchmarks.processes import SERVER_CORE, Broken, on_core, python

__all__ = ["Responder", "Seen", "responder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The responder's counters. Times are Unix seconds, None for what has not happened yet."""

    creates: int
    polls: int
    repeated_polls: int
    seen: int
    lag_mean_s: float | None
    lag_max_s: float
    first_call_at: float | None
    first_create_at: float | None
    last_seen_at: float | None
    cpu_s: float

    @property
    def makespan_s(self) -> float:
        """From the first create to the poll that saw the last completion."""
        if self.first_create_at is None or self.last_seen_at is None:
            raise Broken("no response was created and seen to complete")
        return self.last_seen_at - self.first_create_at

    @property
    def rows_per_s(self) -> float:
        return self.seen / self.makespan_s

    @property
    def calls_per_cpu_s(self) -> float:
        """How many calls the responder could serve per second on a core of its own."""
        return (self.creates + self.polls) / self.cpu_s

    @property
    def busy(self) -> float:
        """The share of its core that the responder used; near 1, the scenario measures the responder itself."""
        return self.cpu_s / self.makespan_s


class Responder:
    """A running responder."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def seen(self) -> Seen:
        return Seen(**self._call("GET", "/_stats"))

    def mark(self) -> None:
        """Makes the next call count as the first one."""
        self._call("POST", "/_mark")

    def _call(self, method: str, path: str) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


@contextmanager
def responder(latency: Latency, *, seed: int = 1, reply_bytes: int = 1500, hold: bool = False) -> Iterator[Responder]:
    """Starts a responder on the server's core; it ends with the block, or with this process."""
    sizes = ("--latency", str(latency), "--seed", seed, "--reply-bytes", reply_bytes, *(["--hold"] if hold else []))
    with on_core(SERVER_CORE):
        process = subprocess.Popen(
            python("-m", "benchmarks.responder", *sizes), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    # Leaving the block closes its standard input, which ends it, and waits for it.
    with process:
        port = process.stdout.readline() if process.stdout else ""
        if not port:
            raise Broken("the responder did not start")
        yield Responder(int(port))
