"""Looks at everything before anything is sent: the machine, the config, the provider, and a job's rows."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio

from orchestrator.app.ask import call_with_retries
from orchestrator.app.wiring import open_client
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.model import PlanMark, SkippedRow
from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.engine.tasks.planner import key_taken
from orchestrator.executors.background import create_body
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job
from orchestrator.stores.base import Backend

__all__ = ["DryRun", "Finding", "check", "dry_run"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``hint`` says what to do where it is not well."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run of the job would read and send. ``first_request`` is the body of the first create call."""

    rows: int
    skipped: list[SkippedRow]
    first_request: bytes | None


async def check(config: Config, database: Backend, *, clock: Clock) -> list[Finding]:
    """Look at everything that a run needs; the key is used and never shown."""
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
        # An embedded sandbox keeps its state beside a database; this one is to leave nothing behind.
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


async def dry_run(job: Job, config: Config) -> DryRun:
    """Read and check every row of a job, and render the first; raises ``BadRow`` where a run would stop."""
    return await anyio.to_thread.run_sync(_rehearse, job, config)


def _rehearse(job: Job, config: Config) -> DryRun:
    renderer = Renderer(job, may_be_unstored=config.provider.store == "optional")
    skipped: list[SkippedRow] = []
    first: bytes | None = None
    keys: set[str] = set()
    for batch in plan(job, renderer, start=PlanMark(position=0, complete=False)):
        skipped += batch.skipped
        for row in batch.rows:
            if row.key in keys:
                taken = key_taken(row)
                if job.input.on_bad_row == "stop":
                    raise taken
                skipped.append(SkippedRow(position=row.position, where=row.where, reason=taken.message))
                continue
            keys.add(row.key)
            if first is None:
                fields = renderer.render(row.row, where=row.where)
                first = create_body(fields, run_uid="dry-run", key=row.key, number=1)
    return DryRun(len(keys), skipped, first)
