"""A client for the sandbox that speaks plain HTTP, so that a test sees exactly what is sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import httpx

__all__ = ["LATENCY", "TEXT", "Caller", "Start"]

TEXT = (
    "The harvest was good this year. Trade with our neighbours grew, and the harvest fed our trade. "
    "Three new roads were built. The army is small. Peace holds on every border of the country."
)
# Queued for 10 s, in progress for 20 s, so that a test can stop in each.
LATENCY = {"queue": 10, "run": 20}


class Caller:
    """Calls with the fields that most tests need; returns replies without checking them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    @property
    def base_url(self) -> str:
        return str(self.http.base_url)

    async def create(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "gpt-5-mini", "input": TEXT, "background": True, "store": True} | fields
        return await self.http.post("/responses", json=body, headers=headers)

    async def created(self, **fields: Any) -> Any:
        reply = await self.create(**fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def poll(self, response_id: str) -> httpx.Response:
        return await self.http.get(f"/responses/{response_id}")

    async def seen(self, response_id: str) -> Any:
        reply = await self.poll(response_id)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def cancel(self, response_id: str) -> httpx.Response:
        return await self.http.post(f"/responses/{response_id}/cancel")

    async def ledger(self) -> Any:
        return (await self.http.get(self.base_url.replace("/v1/", "/_ledger"))).json()


Start: TypeAlias = Callable[..., Coroutine[Any, Any, Caller]]
