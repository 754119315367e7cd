"""Thousands of replies, each damaged by a seeded fuzzer: a damaged reply is the outcome of its own row alone."""

from __future__ import annotations

import gzip
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from orchestrator import Config
from orchestrator.core.states import SETTLED, State
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import EventStream, StreamingClient, StreamLost
from orchestrator.provider.transport import Endpoint
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.asgi_app import create_app
from orchestrator.sandbox.server.socket_listener import SocketListener
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.testing import FastClock
from tests.provider.raw_server import Connection, serve_raw

from .conftest import latency
from .rehearsal import AMPLE, RUN, Rehearsal, write_job

pytestmark = pytest.mark.anyio

LOG = logging.getLogger(__name__)
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    10**19,
    1e300,
    "",
    "x" * 1000,
    [],
    {},
    [[]],
    "\x1b[2J",
    "9" * 400,
    {"id": "resp_x"},
]
Mutation: TypeAlias = Callable[[random.Random, bytes, list[bytes]], bytes]


def flipped(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(body)
    for _flip in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncated(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    return body[: rng.randrange(len(body))]


def nested(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    depth = rng.choice([50, 150, 300, 2_000, 50_000])
    deep = rng.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    return _with_value(rng, body, deep)


def huge(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    return _with_value(rng, body, rng.choice([b"9" * 400, b"9" * 5_000, b"1e999", b"-1e999", b"NaN", b"0.1e-9999"]))


def retyped(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    return _with_value(rng, body, json.dumps(rng.choice(ODD)).encode())


def swapped(rng: random.Random, body: bytes, seen: list[bytes]) -> bytes:
    """Another response's whole reply, or its id."""
    other = rng.choice(seen)
    if rng.random() < 0.5:
        return other
    [*ids] = re.findall(rb"resp_[0-9a-f]+", other)
    return re.sub(rb"resp_[0-9a-f]+", ids[0], body, count=1) if ids else body


def unclean(rng: random.Random, body: bytes, _: list[bytes]) -> bytes:
    noise = rng.choice([b"\\ud83d", b"\xff", b"\x00", b"\x1b[2J", b"\\u0000", b"\r\n"])
    return rng.choice([b"", b"\xef\xbb\xbf"]) + body.replace(b'"text":"', b'"text":"' + noise)


MUTATIONS: list[Mutation] = [flipped, truncated, nested, huge, retyped, swapped, unclean]


def _with_value(rng: random.Random, body: bytes, value: bytes) -> bytes:
    """A body in which the value of one field, at any depth, is another one."""
    places = [found.end() for found in re.finditer(rb'"[a-z_]+":', body)]
    if not places:
        return value
    at = rng.choice(places)
    end = re.compile(rb'"[^"]*"|[^,\]}\[{]*').match(body, at)
    return body[:at] + value + body[end.end() if end else at :]


class Fuzzer:
    """An ASGI app around the sandbox's, which damages each of the replies to calls of one kind with a chance."""

    def __init__(self, app: Any, kind: str, *, seed: int, share: float, most: int) -> None:
        self._app = app
        self._kind = kind
        self._rng = random.Random(seed)
        self._share = share
        self._most = most
        self._seen: list[bytes] = []
        self.counts = Counter[str]()
        # The ids and keys in the replies that were damaged: what is readable of them may be wrong.
        self.touched: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope.get("method")
        kind = {"/v1/responses": "create", "/v1/files": "upload"}.get(path) if method == "POST" else "poll"
        strikes = kind == self._kind and not path.startswith("/_") and self._rng.random() < self._share
        strikes &= self.counts.total() < self._most
        if not strikes and kind != self._kind:
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, collect)
        start, body = messages[0], b"".join(message.get("body", b"") for message in messages[1:])
        self._seen = [*self._seen[-20:], body]
        if strikes and start["status"] == 200 and body:
            mutation = self._rng.choice(MUTATIONS)
            self.counts[mutation.__name__] += 1
            self.touched |= {found.decode() for found in re.findall(rb"resp_[0-9a-f]+|(?<=_key\":\")[^\"]+", body)}
            body = mutation(self._rng, body, self._seen)
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


async def fuzz(tmp_path: Any, kind: str, *, rows: int, most: int, share: float, seed: int = 1) -> Fuzzer:
    """Run a job whose replies are damaged, and check what must hold in spite of it."""
    clock = FastClock(600)
    settings = SandboxSettings.model_validate({"seed": seed, "latency": latency(600)})
    listener = SocketListener("127.0.0.1", 0)
    with SandboxDatabase() as state:
        app = create_app(settings, state, clock=clock, hang_up=listener.hang_up)
        fuzzer = Fuzzer(app, kind, seed=seed, share=share, most=most)
        await listener.open(fuzzer)
        try:
            request = {}
            if kind == "upload":
                (tmp_path / "files").mkdir()
                for number in range(rows):
                    (tmp_path / "files" / f"{number}.txt").write_text(f"file {number}")
                part = {"type": "input_file", "file_id": "{{ ('files/' ~ n ~ '.txt') | upload }}"}
                content = [{"type": "input_text", "text": "Read it."}, part]
                request = {"input": [{"role": "user", "content": content}]}
            job = write_job(tmp_path, rows, {"request": request})
            config = Config.model_validate(
                {
                    "provider": {"base_url": listener.base_url},
                    "limits": AMPLE,
                    "timeouts": {"queued": "10m", "run": "10m"},
                    "in_doubt": {"resend_below_usd": 0},
                }
            )
            at = Rehearsal(folder=tmp_path, base_url=listener.base_url, clock=clock, job=job, config=config)
            # Three unreadable replies before the first readable one halt a run, as they should.
            with anyio.fail_after(300):
                for _ in range(4):
                    async with at.orchestrator() as orchestrator:
                        await orchestrator.run(at.job, name=RUN)
                        await orchestrator.retry(RUN, states=(), resolve_in_doubt="fail")
            await check(at, fuzzer)
        finally:
            with anyio.CancelScope(shield=True):
                await listener.close()
    LOG.info("%s: %d damaged replies: %s", kind, fuzzer.counts.total(), dict(fuzzer.counts))
    return fuzzer


async def check(at: Rehearsal, fuzzer: Fuzzer) -> None:
    shown = {each["id"]: each for each in await at.responses()}
    async with at.orchestrator() as orchestrator:
        results = [row async for row in orchestrator.results(RUN, states=tuple(State))]
        attempts = {row.key: (await orchestrator.show(RUN, row.key)).attempts for row in results}
    # Every row has ended, and most well.
    assert {row.state for row in results} <= SETTLED
    assert sum(row.state is State.SUCCEEDED for row in results) > len(results) / 3
    ids = [each.response_id for tried in attempts.values() for each in tried if each.response_id]
    assert len(ids) == len(set(ids))
    for key, each in ((key, each) for key, tried in attempts.items() for each in tried):
        if each.response_id in shown and not {key, each.response_id} & fuzzer.touched and each.charge is not None:
            assert each.charge.cost_pusd in (None, shown[each.response_id]["cost_pusd"])
    costs = [each.charge.cost_pusd for tried in attempts.values() for each in tried if each.charge is not None]
    async with at.orchestrator() as orchestrator:
        assert (await orchestrator.status(RUN)).cost_pusd == sum(cost or 0 for cost in costs)
    for row in results:
        # What was created and had an id that could be read was never created again, unless it was not found.
        assert row.attempts <= 1 or {each.code for each in attempts[row.key][:-1]} <= {
            "response_expired",
            "queued_timeout",
            "run_timeout",
            *("not_found", "server_error", "cancelled", None),
        }
    succeeded = [row for row in results if row.state is State.SUCCEEDED and row.key not in fuzzer.touched]
    strange = [row for row in succeeded if row.response_id not in shown]
    assert strange == []


@pytest.mark.parametrize("kind", ["create", "poll", "upload"])
async def test_some_hundred_damaged_replies(tmp_path: Any, kind: str) -> None:
    fuzzer = await fuzz(tmp_path, kind, rows=60, most=100, share=0.4)
    assert fuzzer.counts.total() > 10


@pytest.mark.long
@pytest.mark.parametrize("kind", ["create", "poll", "upload"])
async def test_thousands_of_damaged_replies(tmp_path: Any, kind: str) -> None:
    total = Counter[str]()
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        total += (await fuzz(folder, kind, rows=200, most=2_000, share=0.4, seed=seed)).counts
        if total.total() >= 2_000:
            break
    assert total.total() >= 2_000


STREAM = b"".join(
    b"event: x\ndata: %s\n\n" % json.dumps(event).encode()
    for event in (
        {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "status": "queued"}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Good \u00e9vening"},
        {"type": "response.output_item.done", "sequence_number": 2, "item": {"type": "message", "id": "msg_1"}},
        {"type": "response.completed", "sequence_number": 3, "response": {"id": "resp_1", "status": "completed"}},
    )
)


async def fuzz_streams(times: int) -> Counter[str]:
    """Read damaged streams, each to its end; any number of events may be lost, and nothing else happens."""
    rng, counts = random.Random(1), Counter[str]()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            mutation = rng.choice(MUTATIONS)
            counts[mutation.__name__] += 1
            body = mutation(rng, STREAM, [STREAM])
            headers = "Content-Type: text/event-stream\r\n"
            if rng.random() < 0.2:
                body, headers = gzip.compress(body), f"{headers}Content-Encoding: gzip\r\n"
            await connection.answer(body, headers=headers)

    async with serve_raw() as server:
        server.script = script
        client = StreamingClient(HttpxTransport(Endpoint(base_url=server.url)))
        for number in range(times):
            if number % 2:
                made = await client.create(b"{}", idempotency_key="k", client_request_id="c")
                stream = made[1] if isinstance(made, tuple) else None
            else:
                followed = await client.follow("resp_1")
                stream = followed if isinstance(followed, EventStream) else None
            if stream is not None:
                with suppress(StreamLost):
                    async for event in stream:
                        assert isinstance(event.type, str)
                await stream.aclose()
        await client.aclose()
    LOG.info("stream: %d damaged replies: %s", counts.total(), dict(counts))
    return counts


async def test_some_damaged_streams() -> None:
    assert (await fuzz_streams(100)).total() == 100


@pytest.mark.long
async def test_thousands_of_damaged_streams() -> None:
    assert (await fuzz_streams(2_000)).total() == 2_000
