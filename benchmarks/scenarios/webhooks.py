"""Events of ended responses: how many polls they save, how soon an end is seen, and what forged ones cost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.processes import measure, python, start
from benchmarks.product import run_command, scratch
from benchmarks.scenarios import Extent
from orchestrator.provider.webhook_listener import WebhookListener
from orchestrator.provider.webhooks import WebhookVerifier

__all__ = ["flood", "webhooks"]

_ROWS, _IN_FLIGHT = 1500, 100
_LATENCY = {"queue": 0.2, "run": {"median_s": 1.5, "sigma": 0.5}}
_SECRET = "whsec_b2YgdGhlIGJlbmNobWFya3M="  # noqa: S105 – it signs nothing but what is measured here
_FORGED_PER_S, _FLOOD_S = 1000, 5.0
_FORGED = (
    b"POST / HTTP/1.1\r\nhost: here\r\nwebhook-id: wh_1\r\nwebhook-timestamp: %d\r\ncontent-length: 2\r\n"
    b"webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=\r\n\r\n{}"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The polls of a response, and how late its end was seen: on average, and for half of them."""

    polls: float
    mean_lag_s: float
    median_lag_s: float


def webhooks(extent: Extent) -> Iterator[Figure]:
    """Polls and lag with events, with three in ten lost, and without; the cost of 1,000 forged ones a second."""
    rows = _ROWS * (4 if extent.full else 1)
    without, announced, lossy = (_run(events, rows) for events in (None, {}, {"lost": 0.3}))
    yield figure("without events: polls per response", without.polls, "")
    yield figure("without events: mean lag", without.mean_lag_s, "s")
    yield figure("with events: polls per response", announced.polls, "", AtMost(1.1))
    yield figure("with events: median lag", announced.median_lag_s, "s", AtMost(0.2))
    yield figure("three in ten lost: polls per response", lossy.polls, "")
    yield figure("three in ten lost: mean lag / without", lossy.mean_lag_s / without.mean_lag_s, "×", AtMost(1.1))
    yield figure("1,000 forged a second: CPU", asyncio.run(_flood_share()), "cores", AtMost(0.05))


def _run(events: Mapping[str, Any] | None, rows: int) -> _Seen:
    with scratch() as folder, patch.dict(os.environ, {"OPENAI_WEBHOOK_SECRET": _SECRET}):
        _write(folder, events, rows)
        measure(run_command(folder))
        with (
            closing(sqlite3.connect(folder / "runs.db")) as ours,
            closing(sqlite3.connect(folder / "runs.db.sandbox")) as theirs,
        ):
            ended_at = dict(theirs.execute("SELECT id, ends_at FROM response"))
            seen_at = ours.execute("SELECT response_id, ended_at FROM attempt").fetchall()
            [polls] = theirs.execute("SELECT value FROM counter WHERE name = 'poll.calls'").fetchone()
    lags = [at - ended_at[response_id] for response_id, at in seen_at]
    return _Seen(polls / rows, fmean(lags), median(lags))


def _write(folder: Path, events: Mapping[str, Any] | None, rows: int) -> None:
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {n}, "text": "text number {n}"}}\n' for n in range(rows)))
    request = {"model": "gpt-5-mini", "input": "Summarise: {{ text }}", "max_output_tokens": 500}
    job = {"name": "events", "input": {"path": "rows.jsonl", "key": "id"}, "request": request}
    sandbox: dict[str, Any] = {"latency": _LATENCY}
    limits = {"requests_per_minute": 60_000, "max_in_flight": _IN_FLIGHT}
    config: dict[str, Any] = {"provider": {"sandbox": sandbox}, "limits": limits}
    if events is not None:
        address = f"127.0.0.1:{_free_port()}"
        sandbox["webhooks"] = {"deliver_to": f"http://{address}/", "secret": _SECRET, **events}
        config["webhooks"] = {"listen": address}
    (folder / "job.yaml").write_text(json.dumps(job))
    (folder / "config.yaml").write_text(json.dumps(config))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _flood_share() -> float:
    """The share of a core that a listener takes of this process while another one floods it."""
    listener = WebhookListener(lambda _: True, now=time.time, refused=lambda *_: None)
    listener.verifier = WebhookVerifier([_SECRET])
    _, port = listener.open("127.0.0.1", 0)
    code = f"import asyncio; from benchmarks.scenarios.webhooks import flood; asyncio.run(flood({port}))"
    with start(python("-c", code)):
        await asyncio.sleep(1.0)
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(_FLOOD_S - 2.0)
        share = (time.process_time() - used) / (time.monotonic() - began)
    listener.close()
    return share


async def flood(port: int) -> None:
    """Send forged events, each on a connection of its own."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    tasks = set[asyncio.Task[None]]()
    while loop.time() < began + _FLOOD_S:
        task = asyncio.create_task(_forge(port))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        sent += 1
        await asyncio.sleep(max(0.0, began + sent / _FORGED_PER_S - loop.time()))


async def _forge(port: int) -> None:
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_FORGED % time.time())
        await reader.readline()
        writer.close()
