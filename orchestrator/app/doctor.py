"""Checks everything that a run needs before it sends anything: the machine, the config, the key, the provider."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from orchestrator.app.ask import call_with_retries
from orchestrator.app.connections import open_client
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.stores.base import Backend

__all__ = ["Finding", "check"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; ``hint`` says how to fix what failed."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


async def check(config: Config, database: Backend, *, clock: Clock) -> list[Finding]:
    """Checks everything that a run needs; the key is used and never shown."""
    return [finding async for finding in _findings(config, database, clock)]


async def _findings(config: Config, database: Backend, clock: Clock) -> AsyncIterator[Finding]:
    yield Finding("python", True, platform.python_version())
    yield Finding("sqlite", True, sqlite3.sqlite_version)
    yield await _database(database)
    yield Finding("config", True, str(config.source) if config.source else "defaults: OpenAI's own API")
    try:
        config.api_key(os.environ)
    except OrchestratorError as error:
        yield Finding("key", False, error.message, error.hint)
        return
    needed = config.provider.sandbox is None and config.provider.api_key_env is not None
    yield Finding("key", True, f"{config.provider.api_key_env} is set" if needed else "none is needed")
    yield await _provider(config, clock)


async def _database(database: Backend) -> Finding:
    existed = await database.exists()
    try:
        await database.check()
    except OrchestratorError as error:
        return Finding("database", False, error.message, error.hint)
    return Finding("database", True, f"{database.address} {'can be used' if existed else 'can be made'}")


async def _provider(config: Config, clock: Clock) -> Finding:
    where = "sandbox" if config.provider.sandbox is not None else config.provider.base_url
    try:
        # An embedded sandbox keeps its state beside a database; this one must leave nothing behind.
        with TemporaryDirectory() as folder:
            async with open_client(config, Path(folder) / "doctor.db") as client:
                answer = await call_with_retries(client.models, clock=clock, rng=Random())
    except OrchestratorError as error:
        return Finding("provider", False, error.message, error.hint)
    match answer:
        case NeverSent(reason=reason) | ReplyLost(reason=reason):
            return Finding("provider", False, f"{where}: {reason}", "check provider.base_url and the network")
        case Refused(status=401 | 403):
            return Finding("provider", False, f"{where} refuses the key", f"check {config.provider.api_key_env}")
        case Refused(status=404 | 405):
            return Finding("provider", True, f"{where} answers, and offers no list of models")
        case Refused(status=status):
            return Finding("provider", False, f"{where} answers with HTTP {status}", "try again in a minute")
        case models:
            return Finding("provider", True, f"{where} answers, and offers {len(models)} models")
