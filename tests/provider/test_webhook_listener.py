from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from orchestrator.core.webhook_signature import signature_of
from orchestrator.provider.webhook_listener import WebhookListener
from orchestrator.provider.webhooks import Flaw, WebhookEvent, WebhookVerifier

pytestmark = pytest.mark.anyio

NOW = 1_780_000_000
BODY = b'{"type":"response.completed","data":{"id":"resp_1"}}'


class Received:
    """What the listener hands over, and how that is answered."""

    def __init__(self) -> None:
        self.events: list[WebhookEvent] = []
        self.flaws: list[tuple[Flaw, float]] = []
        self.answer: Callable[[], bool | asyncio.Future[bool]] = lambda: True
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def handle(self, event: WebhookEvent) -> bool | asyncio.Future[bool]:
        self.events.append(event)
        if not self.first.done():
            self.first.set_result(None)
        return self.answer()


@asynccontextmanager
async def listening(received: Received) -> AsyncIterator[int]:
    listener = WebhookListener(
        received.handle,
        now=lambda: float(NOW),
        refused=lambda flaw, late_s: received.flaws.append((flaw, late_s)),
    )
    listener.verifier = WebhookVerifier(["secret"])
    _, port = listener.open("127.0.0.1", 0)
    try:
        yield port
    finally:
        listener.close()


def a_post(body: bytes = BODY, *, at: int = NOW, key: bytes = b"secret", more: bytes = b"") -> bytes:
    signature = signature_of(key, b"wh_1", b"%d" % at, body)
    return (
        b"POST /openai HTTP/1.1\r\nHost: x\r\nWebhook-Id: wh_1\r\nwebhook-timestamp: %d\r\nWEBHOOK-SIGNATURE: %b\r\n"
        b"%bContent-Length: %d\r\n\r\n%b" % (at, signature, more, len(body), body)
    )


async def status_of(port: int, *pieces: bytes) -> int:
    """The status of the reply to a request that is sent in pieces; 0 for none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else 0


async def test_a_delivery_is_handed_over_and_answered() -> None:
    received = Received()
    async with listening(received) as port:
        assert await status_of(port, a_post()) == 200
    assert [(event.type, event.subject) for event in received.events] == [("response.completed", "resp_1")]


async def test_a_delivery_may_come_in_pieces_and_in_chunks() -> None:
    received = Received()
    chunked = a_post(more=b"Transfer-Encoding: chunked\r\n").replace(b"Content-Length: %d\r\n" % len(BODY), b"")
    head, _, body = chunked.partition(b"\r\n\r\n")
    post = a_post()
    async with listening(received) as port:
        assert await status_of(port, post[:30], post[30:90], post[90:]) == 200
        assert await status_of(port, head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) == 200
    assert len(received.events) == 2


async def test_one_connection_delivers_many() -> None:
    received = Received()
    async with listening(received) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(a_post())
            assert b"200" in await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert len(received.events) == 3


WRONG = {
    "forged": (a_post(key=b"other"), 400),
    "old": (a_post(at=NOW - 1000), 400),
    "unsigned": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
    "not http": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "a get": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "an upgrade": (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 405),
    "too large": (a_post(b"x" * 70_000), 413),
    "far too large": (a_post(b"x" * 1_000_000), 413),
    "a head without end": (b"POST / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000, 413),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_refused_and_not_handed_over(name: str) -> None:
    request, status = WRONG[name]
    received = Received()
    async with listening(received) as port:
        try:
            assert await status_of(port, request) in (status, 0 if status == 413 else status)
        except ConnectionError:
            # It was closed before all of it was sent.
            assert status == 413
        assert await status_of(port, a_post()) == 200
    assert len(received.events) == 1


async def test_a_wrong_clock_is_named_with_its_difference() -> None:
    received = Received()
    async with listening(received) as port:
        assert await status_of(port, a_post(at=NOW - 1000)) == 400
        assert await status_of(port, a_post(at=NOW - 1000, key=b"other")) == 400
    assert received.flaws == [(Flaw.OUT_OF_TIME, 1000.0), (Flaw.FORGED, 0.0)]


@pytest.mark.parametrize(("taken", "status"), [(True, 200), (False, 503)])
async def test_the_answer_may_come_later(taken: bool, status: int) -> None:
    received = Received()
    later: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    received.answer = lambda: later
    async with listening(received) as port:
        asking = asyncio.create_task(status_of(port, a_post()))
        await received.first
        later.set_result(taken)
        assert await asking == status


async def test_what_is_not_taken_in_comes_again() -> None:
    received = Received()
    received.answer = lambda: False
    async with listening(received) as port:
        assert await status_of(port, a_post()) == 503


async def test_connections_are_bounded() -> None:
    received = Received()
    async with listening(received) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(130)]
        # The last ones are closed at once, whatever they send.
        assert await asyncio.wait_for(opened[-1][0].read(), 10) == b""
        opened[0][1].write(a_post())
        assert b"200" in await opened[0][0].readline()
        for _, writer in opened:
            writer.close()


async def test_a_taken_address_is_an_error() -> None:
    received = Received()
    async with listening(received) as port:
        other = WebhookListener(received.handle, now=time.time, refused=lambda *_: None)
        with pytest.raises(OSError):
            other.open("127.0.0.1", port)
        other.close()


async def test_a_flood_of_forged_ones_is_read_slowly_and_a_genuine_one_gets_through() -> None:
    received = Received()
    loop = asyncio.get_running_loop()
    async with listening(received) as port:
        began = loop.time()

        async def flood() -> None:
            for _ in range(15):
                assert await status_of(port, a_post(key=b"other")) == 400

        floods = [asyncio.create_task(flood()) for _ in range(4)]
        assert await status_of(port, a_post()) == 200
        await asyncio.gather(*floods)
        # Six times ten of them, and nothing is read in between.
        assert loop.time() - began >= 5 * 0.1
    assert len(received.events) == 1
    assert len(received.flaws) == 60
