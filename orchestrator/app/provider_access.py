"""Under which key, project and address a run's responses were created: they are known there and nowhere else."""

from __future__ import annotations

import hashlib
import os

import orjson

from orchestrator.config import Config
from orchestrator.engine.run_context import EngineReader
from orchestrator.policy.errors.resumed_polls import Access
from orchestrator.stores.base import Store
from orchestrator.stores.reads import Run

__all__ = ["access_hash", "compare_access", "find_endpoints"]


async def compare_access(config: Config, run: Run, *, store: Store, reader: EngineReader) -> Access:
    """Compare the access of now with the one that is kept with the run; without open responses, keep that of now."""
    name, now = _name_of(run, config.endpoint_name), access_hash(config, run)
    kept = await reader.recall(name)
    if kept == now:
        return Access.SAME
    open_ = await reader.open_attempts(run.id)
    if any(attempt.response_id for attempt in open_ if attempt.endpoint == config.endpoint_name):
        return Access.UNKNOWN if kept is None else Access.CHANGED
    await store.remember(name, now)
    return Access.SAME


async def find_endpoints(config: Config, run: Run, reader: EngineReader) -> dict[str | None, int]:
    """The places of the endpoints by their names; raises ``ConfigError`` if one with open responses is not there.

    A run that began with one provider continues with several if that is one of them.
    """
    places: dict[str | None, int] = {each.endpoint_name: place for place, each in enumerate(config.endpoints)}
    if config.providers:
        began = await reader.recall(_name_of(run, None))
        for place, each in enumerate(config.endpoints):
            if began is not None and began == access_hash(each, run):
                places[None] = place
    for attempt in await reader.open_attempts(run.id):
        if attempt.endpoint not in places:
            config.at(attempt.endpoint)
    return places


def _name_of(run: Run, endpoint: str | None) -> str:
    return f"access:{run.uid}" if endpoint is None else f"access:{run.uid}:{endpoint}"


def access_hash(config: Config, run: Run) -> bytes:
    """Returns a hash of address, key and headers under the run's own secret, from which no key can be found."""
    provider = config.provider
    headers = {} if provider.is_embedded else provider.request_headers(config.api_key(os.environ))
    access = orjson.dumps([provider.address, headers, provider.query], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(access, digest_size=16, key=run.uid.encode()).digest()
