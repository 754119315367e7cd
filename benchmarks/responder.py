"""A server of background responses that costs almost nothing: HTTP/1.1 parsed by hand, no task or timer per call.

``python -m benchmarks.responder`` prints its port and serves until its standard input closes, so that it ends with
its parent process. Besides create and retrieve it answers ``GET /_stats`` (its counters, and the lag between each
completion and the poll that saw it) and ``POST /_mark`` (which resets ``first_call_at``).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import sys
import time
from array import array
from collections.abc import Iterator
from typing import Any

from benchmarks.latency import parse_latency
from benchmarks.replies import Replies, http_reply

__all__ = ["Connection", "Responses", "main"]

_RESPONSES = b"/v1/responses"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_NOT_FOUND = http_reply(404, {"error": {"message": "no such path or response", "type": "invalid_request_error"}})


class Responses:
    """All responses: when each was created and ends, in arrays, so that a million of them take about 20 MB."""

    def __init__(self, latencies: Iterator[float], replies: Replies) -> None:
        self._latencies = latencies
        self._replies = replies
        self._created_at = array("d")
        self._ends_at = array("d")
        self._seen = bytearray()
        self._polls = self._repeated = self._seen_count = 0
        self._lag_sum_s = self._lag_max_s = 0.0
        self._first_call_at: float | None = None
        self._first_create_at: float | None = None
        self._last_seen_at: float | None = None
        self._cpu_s_before = time.process_time()

    def create(self) -> bytes:
        now = self._called()
        if self._first_create_at is None:
            self._first_create_at = now
        number = len(self._ends_at)
        self._created_at.append(now)
        self._ends_at.append(now + next(self._latencies))
        self._seen.append(0)
        return self._replies.queued(number, int(now))

    def hold(self) -> tuple[float, bytes]:
        """Creates a response whose call is held: after how many seconds it is answered, and with what."""
        now, latency_s = self._called(), next(self._latencies)
        number = len(self._ends_at)
        if self._first_create_at is None:
            self._first_create_at = now
        self._created_at.append(now)
        self._ends_at.append(now + latency_s)
        self._seen.append(0)
        self._saw(number, now + latency_s, 0.0)
        return latency_s, self._replies.completed(number, int(now), int(now + latency_s))

    def poll(self, response_id: bytes) -> bytes:
        now = self._called()
        number = _number(response_id)
        if number is None or number >= len(self._ends_at):
            return _NOT_FOUND
        created_at, ends_at = int(self._created_at[number]), self._ends_at[number]
        if self._seen[number]:
            self._repeated += 1
        else:
            self._polls += 1
            if now < ends_at:
                return self._replies.in_progress(number, created_at)
            self._saw(number, now, now - ends_at)
        return self._replies.completed(number, created_at, int(ends_at))

    def stats(self) -> dict[str, Any]:
        """The counters; times are Unix seconds, lags are seconds."""
        return {
            "creates": len(self._ends_at),
            "polls": self._polls + self._repeated,
            "repeated_polls": self._repeated,
            "seen": self._seen_count,
            "lag_mean_s": self._lag_sum_s / self._seen_count if self._seen_count else None,
            "lag_max_s": self._lag_max_s,
            "first_call_at": self._first_call_at,
            "first_create_at": self._first_create_at,
            "last_seen_at": self._last_seen_at,
            "cpu_s": time.process_time() - self._cpu_s_before,
        }

    def mark(self) -> None:
        """Makes the next call count as the first one."""
        self._first_call_at = None

    def _called(self) -> float:
        now = time.time()
        if self._first_call_at is None:
            self._first_call_at = now
        return now

    def _saw(self, number: int, now: float, lag_s: float) -> None:
        self._seen[number] = 1
        self._seen_count += 1
        self._last_seen_at = now
        self._lag_sum_s += lag_s
        self._lag_max_s = max(self._lag_max_s, lag_s)


class Connection(asyncio.Protocol):
    """One client connection; requests that arrive together are answered together, in their order."""

    def __init__(self, responses: Responses, *, hold: bool = False) -> None:
        self._responses = responses
        self._hold = hold
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        data = self._unread + data if self._unread else data
        answers, start = [], 0
        while (end := data.find(b"\r\n\r\n", start)) >= 0:
            head = data[start:end]
            length = _LENGTH.search(head)
            after = end + 4 + (int(length[1]) if length else 0)
            if after > len(data):
                break
            answers.append(self._answer(head))
            start = after
        self._unread = data[start:]
        self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    def _answer(self, head: bytes) -> bytes:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET" and path.startswith(_RESPONSES):
            return self._responses.poll(path[len(_RESPONSES) + 1 :])
        match method, path:
            case b"POST", b"/v1/responses":
                return self._held() if self._hold else self._responses.create()
            case b"GET", b"/_stats":
                return http_reply(200, self._responses.stats())
            case b"POST", b"/_mark":
                self._responses.mark()
                return http_reply(200, {})
        return _NOT_FOUND

    def _held(self) -> bytes:
        """Answers later; a client holds one call on each connection."""
        latency_s, answer = self._responses.hold()
        asyncio.get_running_loop().call_later(latency_s, self._transport.write, answer)
        return b""


def main() -> None:
    """Serves on a free port of 127.0.0.1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.responder", description=__doc__)
    parser.add_argument("--latency", type=parse_latency, default=parse_latency("0.05"), metavar="SECONDS[:SIGMA]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reply-bytes", type=int, default=1500, help="size of a completed response object")
    parser.add_argument("--hold", action="store_true", help="answer a create when its response has ended")
    wanted = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_serve(Responses(wanted.latency.draws(wanted.seed), Replies(wanted.reply_bytes)), hold=wanted.hold))


async def _serve(responses: Responses, *, hold: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(responses, hold=hold), "127.0.0.1", 0, backlog=4096)
    closed = asyncio.Event()
    loop.add_reader(sys.stdin, closed.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await closed.wait()


def _number(response_id: bytes) -> int | None:
    try:
        return int(response_id.partition(b"?")[0].removeprefix(b"resp_"), 16)
    except ValueError:
        return None


if __name__ == "__main__":
    main()
