"""Under which key, project and address a run's responses were created: they are known there and nowhere else."""

from __future__ import annotations

import hashlib
import os

import orjson

from orchestrator.app.connections import address
from orchestrator.config import Config
from orchestrator.engine.run_context import EngineReader
from orchestrator.policy.errors.resumed_polls import Access
from orchestrator.stores.base import Store
from orchestrator.stores.reads import Run

__all__ = ["access_hash", "compare_access"]


async def compare_access(config: Config, run: Run, *, store: Store, reader: EngineReader) -> Access:
    """Compare the access of now with the one that is kept with the run; without open responses, keep that of now."""
    name, now = f"access:{run.uid}", access_hash(config, run)
    kept = await reader.recall(name)
    if kept == now:
        return Access.SAME
    if any(attempt.response_id for attempt in await reader.open_attempts(run.id)):
        return Access.UNKNOWN if kept is None else Access.CHANGED
    await store.remember(name, now)
    return Access.SAME


def access_hash(config: Config, run: Run) -> bytes:
    """Returns a hash of address, key and headers under the run's own secret, from which no key can be found."""
    provider = config.provider
    headers = {} if provider.is_embedded else provider.request_headers(config.api_key(os.environ))
    access = orjson.dumps([address(config), headers, provider.query], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(access, digest_size=16, key=run.uid.encode()).digest()
