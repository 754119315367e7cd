"""Makes and removes a webhook endpoint at the provider, for the time of a run (responses API, "Webhooks")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from pydantic import BaseModel, Field

from orchestrator.core.errors import ProviderUnreachable
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.provider.client import CallFailed, ResponsesClient
from orchestrator.provider.webhooks import RESPONSE_ENDINGS

__all__ = ["send_test_event", "webhook_endpoint"]

_BodyT = TypeVar("_BodyT", bound=BaseModel)

_REMOVAL_S = 10.0
_MOST_PAGES = 10


class _Endpoint(BaseModel):
    id: str = Field(min_length=1)
    name: str = ""


class _NewEndpoint(_Endpoint):
    signing_secret: str = Field(min_length=1)


class _Endpoints(BaseModel):
    data: list[_Endpoint]
    has_more: bool = False


class _Removed(BaseModel):
    pass


@asynccontextmanager
async def webhook_endpoint(client: ResponsesClient, *, name: str, url: str) -> AsyncIterator[tuple[str, str]]:
    """An endpoint of that name for ended responses, as its id and its secret; it is removed at the end.

    One of the same name, left by a process that was killed, is removed first. Raises ``ProviderUnreachable``.
    """
    for endpoint_id in await _named(client, name):
        await _remove(client, endpoint_id)
    body = {"name": name, "url": url, "event_types": sorted(RESPONSE_ENDINGS)}
    made = _checked(await client.ask("POST", "/webhook_endpoints", _NewEndpoint, body=body))
    try:
        yield made.id, made.signing_secret
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_REMOVAL_S):
            await _remove(client, made.id)


async def send_test_event(client: ResponsesClient, endpoint_id: str) -> Problem | None:
    """Ask the provider for an event of the kind that ended responses have."""
    body = {"event_type": "response.completed"}
    sent = await client.ask("POST", f"/webhook_endpoints/{endpoint_id}/test", _Removed, body=body)
    return None if isinstance(sent, _Removed) else sent


async def _named(client: ResponsesClient, name: str) -> list[str]:
    found: list[str] = []
    query = "limit=100"
    for _ in range(_MOST_PAGES):
        page = _checked(await client.ask("GET", f"/webhook_endpoints?{query}", _Endpoints))
        found += [each.id for each in page.data if each.name == name]
        if not page.has_more or not page.data:
            break
        query = f"limit=100&after={page.data[-1].id}"
    return found


async def _remove(client: ResponsesClient, endpoint_id: str) -> None:
    """Remove an endpoint; one that cannot be removed now is found by its name in the next run."""
    await client.ask("DELETE", f"/webhook_endpoints/{endpoint_id}", _Removed)


def _checked(answer: _BodyT | Problem) -> _BodyT:
    if isinstance(answer, NeverSent | Refused | ReplyLost):
        raise ProviderUnreachable(
            f"no webhook endpoint could be made: {CallFailed(answer)}",
            hint="make one at the provider and name its secret in webhooks.secret_env, or remove the section",
        )
    return answer
