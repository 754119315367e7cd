"""Sends an event for each background response that has ended, as a provider does: at least once, in no order."""

from __future__ import annotations

import heapq
import secrets
from contextlib import aclosing
from random import Random
from urllib.parse import urlsplit

import anyio
import orjson

from orchestrator.core.clock import Clock
from orchestrator.core.webhook_signature import SECRET_PREFIX, decoded_secret, signature_of
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.transport import Endpoint, Transport, TransportError
from orchestrator.sandbox.faults.fault_plan import draw_duration
from orchestrator.sandbox.sandbox_settings import Webhooks
from orchestrator.sandbox.simulation.event_endpoints import WebhookEndpoints
from orchestrator.sandbox.storage.response_record import true_status
from orchestrator.sandbox.storage.response_store import ResponseStore

__all__ = ["WebhookSender"]

_PERIOD_S = 0.02
# Some deliveries are held until it is known whose the response is.
_AT_ONCE = 128
# A delivery is held for up to 20 s until it is known whose the response is.
_TIMEOUT_S = 25.0
_FIRST_WAIT_S = 0.2
# Responses that ended longer ago than this when the sandbox started have been announced.
_OLDEST_S = 3_600.0
# Forged events are signed with this.
_WRONG_KEY = b"not the secret of any endpoint"


class WebhookSender:
    """Follows the responses in their order, and sends the event of each when it is due."""

    def __init__(
        self,
        settings: Webhooks,
        endpoints: WebhookEndpoints,
        responses: ResponseStore,
        clock: Clock,
        *,
        seed: int,
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._responses = responses
        self._clock = clock
        self._rng = Random(f"{seed} webhooks")
        self._read_to = -1
        self._due: list[tuple[float, str]] = []

    async def run(self) -> None:
        """Send until cancelled."""
        places = anyio.CapacityLimiter(_AT_ONCE)
        started_at = self._clock.now()
        async with aclosing(_transport(self._settings.deliver_to)) as client, anyio.create_task_group() as tasks:
            while True:
                for record in self._responses.light_records_after(self._read_to):
                    self._read_to = record.ordinal
                    if record.background and record.ends_at > started_at - _OLDEST_S:
                        delay_s = draw_duration(self._settings.delay, self._rng)
                        heapq.heappush(self._due, (record.ends_at + delay_s, record.id))
                while self._endpoints.tests:
                    secret, kind = self._endpoints.tests.popleft()
                    body = _event(kind, f"resp_{secrets.token_hex(25)}", self._clock.now())
                    tasks.start_soon(self._deliver, client, places, body, _key(secret))
                while self._due and self._due[0][0] <= self._clock.now():
                    for body, key in self._events(heapq.heappop(self._due)[1]):
                        tasks.start_soon(self._deliver, client, places, body, key)
                await self._clock.sleep_until(self._clock.now() + _PERIOD_S)

    def _events(self, response_id: str) -> list[tuple[bytes, bytes]]:
        """The deliveries of a response: the body and the key that signs it."""
        record = self._responses.get(response_id)
        if record is None:
            return []
        kind = f"response.{true_status(record, self._clock.now())}"
        draw, settings, deliveries = self._rng.random, self._settings, []
        for secret in self._endpoints.secrets_for(kind):
            body, key = _event(kind, response_id, self._clock.now()), _key(secret)
            deliveries += [(body, key)] * ((draw() >= settings.lost) * (1 + (draw() < settings.repeated)))
            if draw() < settings.forged:
                deliveries.append((_event(kind, f"resp_{secrets.token_hex(25)}", self._clock.now()), _WRONG_KEY))
        return deliveries

    async def _deliver(self, client: Transport, places: anyio.CapacityLimiter, body: bytes, key: bytes) -> None:
        """Send an event until it is accepted; a forged one only once."""
        message_id, wait_s = f"wh_{secrets.token_hex(12)}", _FIRST_WAIT_S
        while True:
            at = str(int(self._clock.now()))
            signature = signature_of(key, message_id.encode(), at.encode(), body).decode()
            headers = {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signature}
            async with places:
                if await self._post(client, body, headers) or key is _WRONG_KEY:
                    return
            await self._clock.sleep_until(self._clock.now() + wait_s)
            wait_s = min(2.0 * wait_s, self._settings.longest_wait_s)

    async def _post(self, client: Transport, body: bytes, headers: dict[str, str]) -> bool:
        parts = urlsplit(self._settings.deliver_to)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"content-type": "application/json", **headers}
        try:
            reply = await client.call("POST", path, body=body, headers=headers)
        except TransportError:
            return False
        return 200 <= reply.status < 300


def _transport(url: str) -> AsyncioTransport:
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    return AsyncioTransport(Endpoint(base_url=origin, read_timeout_s=_TIMEOUT_S, max_connections=_AT_ONCE))


def _event(kind: str, object_id: str, at: float) -> bytes:
    event = {"id": f"evt_{secrets.token_hex(12)}", "object": "event", "created_at": int(at), "type": kind}
    return orjson.dumps({**event, "data": {"id": object_id}})


def _key(secret: str) -> bytes:
    return decoded_secret(secret) if secret.startswith(SECRET_PREFIX) else secret.encode()
