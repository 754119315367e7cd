"""Opens connections to the provider that a config names, an embedded one included."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import Config
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.redaction import Redaction
from orchestrator.provider.reply_memory import ReplyMemory
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint, Transport

if TYPE_CHECKING:
    from orchestrator.provider.batches import BatchClient
    from orchestrator.provider.organization import OrganizationClient

__all__ = [
    "Provider",
    "address",
    "endpoint_config",
    "lanes_snapshot",
    "limits_of",
    "limits_snapshot",
    "open_client",
    "open_organization",
    "open_provider",
    "open_providers",
]


# A file of 200 MB over a slow line.
_FILE_TIMEOUT_S = 900.0


class Provider:
    """The server that a config names, ready to be called."""

    def __init__(self, config: Config, endpoint: Endpoint) -> None:
        self.config = config
        self._config = config.provider
        self._lanes = config.lanes
        self._run_timeout_s = config.timeouts.run
        self._endpoint = endpoint
        self._resources = AsyncExitStack()
        self.client = ResponsesClient(
            _transport(self._config.transport, endpoint),
            create_codes=self._config.create_codes,
            status_aliases=self._config.status_aliases,
        )
        self._resources.push_async_callback(self.client.aclose)

    def held(self) -> ResponsesClient:
        """A client for create calls that last until the answer is there, with connections of its own."""
        endpoint = replace(
            self._endpoint, read_timeout_s=self._run_timeout_s, max_connections=self._lanes.sync.at_once
        )
        client = ResponsesClient(
            _transport(self._config.transport, endpoint),
            create_codes=self._config.create_codes,
            status_aliases=self._config.status_aliases,
        )
        self._resources.push_async_callback(client.aclose)
        return client

    def batches(self) -> BatchClient:
        """A client for batches, with connections of its own: their files are large."""
        from orchestrator.provider.batches import BatchClient
        from orchestrator.provider.httpx_transport import HttpxTransport

        files = replace(self._endpoint, read_timeout_s=max(self._endpoint.read_timeout_s, _FILE_TIMEOUT_S))
        client = BatchClient(
            _transport(self._config.transport, self._endpoint),
            HttpxTransport(files),
            status_aliases=self._config.status_aliases,
            most_line_bytes=self._endpoint.max_reply_bytes,
        )
        self._resources.push_async_callback(client.aclose)
        return client

    def streams(self) -> StreamingClient:
        """A client for streams, whichever transport the config names for calls: streams are few and last long."""
        from orchestrator.provider.httpx_transport import HttpxTransport

        client = StreamingClient(
            HttpxTransport(self._endpoint),
            status_aliases=self._config.status_aliases,
            most_bytes=self._endpoint.max_reply_bytes,
        )
        self._resources.push_async_callback(client.aclose)
        return client

    @property
    def redaction(self) -> Redaction:
        """Removes the secrets of the request headers from text."""
        return self._endpoint.redaction

    async def aclose(self) -> None:
        """Close every connection."""
        await self._resources.aclose()


@asynccontextmanager
async def open_provider(
    config: Config, database: Path | None, *, warn: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Provider]:
    """The provider of the config, a local model, or the embedded sandbox, which keeps its state beside the database.

    All processes that work on one database share its sandbox; ``warn`` is called with the reason for a long wait.
    """
    async with AsyncExitStack() as stack:
        provider = config.provider
        api_key: str | None
        if provider.local_model is not None:
            from orchestrator.local_model.model_process import local_model

            model = await stack.enter_async_context(local_model(provider.local_model, config.local_model_file))
            base_url, api_key = model.base_url, model.api_key
        elif provider.sandbox is None:
            base_url, api_key = provider.base_url, config.api_key(os.environ)
        else:
            from orchestrator.sandbox.server.process import embedded_sandbox

            suffix = f".sandbox-{config.endpoint_name}" if config.endpoint_name else ".sandbox"
            state = None if database is None else database.with_name(database.name + suffix)
            sandbox = await stack.enter_async_context(embedded_sandbox(provider.sandbox, state, warn=warn))
            base_url, api_key = sandbox.base_url, sandbox.api_key
        endpoint = Endpoint(
            base_url=base_url,
            headers=provider.request_headers(api_key),
            query=provider.query,
            connect_timeout_s=config.timeouts.connect,
            read_timeout_s=config.timeouts.read,
            max_reply_bytes=config.limits.reply_bytes,
            reply_memory=ReplyMemory(config.limits.reply_bytes_in_memory),
        )
        opened = Provider(config, endpoint)
        stack.push_async_callback(opened.aclose)
        yield opened


@asynccontextmanager
async def open_providers(
    config: Config, database: Path | None, *, warn: Callable[[str], None] = lambda _: None
) -> AsyncIterator[list[Provider]]:
    """The provider of each endpoint of the config, in their order; see ``open_provider``."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_provider(each, database, warn=warn)) for each in config.endpoints]


def endpoint_config(config: Config, endpoint: str | None) -> Config:
    """The config of the endpoint that has a response; raises ``ConfigError`` if it is not there."""
    return config.at(endpoint) if config.providers else config


@asynccontextmanager
async def open_client(config: Config, database: Path | None) -> AsyncIterator[ResponsesClient]:
    """The provider's client for calls; see ``open_provider``."""
    async with open_provider(config, database) as provider:
        yield provider.client


@asynccontextmanager
async def open_organization(config: Config) -> AsyncIterator[OrganizationClient]:
    """The provider's account of the organisation, which needs an admin key."""
    from orchestrator.provider.organization import OrganizationClient

    endpoint = Endpoint(
        base_url=config.provider.base_url,
        headers=config.provider.request_headers(config.admin_key(os.environ)),
        query=config.provider.query,
        connect_timeout_s=config.timeouts.connect,
        read_timeout_s=config.timeouts.read,
        max_reply_bytes=config.limits.reply_bytes,
    )
    client = OrganizationClient(_transport(config.provider.transport, endpoint))
    try:
        yield client
    finally:
        await client.aclose()


def _transport(name: str, endpoint: Endpoint) -> Transport:
    if name == "httpx":
        from orchestrator.provider.httpx_transport import HttpxTransport

        return HttpxTransport(endpoint)
    from orchestrator.provider.asyncio_transport import AsyncioTransport

    return AsyncioTransport(endpoint)


def limits_snapshot(config: Config) -> str:
    """The name under which learned limits are stored: another server has other limits."""
    return limits_of(address(config))


def limits_of(address: str) -> str:
    """The name under which the learned limits of the provider at an address are stored."""
    return f"limits:{address}"


def lanes_snapshot(config: Config) -> str:
    """The name under which what is learned of lanes is stored."""
    return f"lane-history:{address(config)}"


def address(config: Config) -> str:
    """Which provider it is: learned limits and ids of objects are valid there and nowhere else."""
    if config.providers:
        return " + ".join(sorted(map(address, config.endpoints)))
    name = config.endpoint_name
    return config.provider.address if name is None else f"{name} at {config.provider.address}"
