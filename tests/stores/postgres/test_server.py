"""What is said of a server that cannot be used, or that should be set up in another way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.stores.backends import open_backend
from orchestrator.stores.postgres import database
from orchestrator.stores.postgres.postgres_backend import PostgresBackend
from tests.postgres_server import free_port
from tests.stores.builders import Harness, a_run

from .new_schema import migrated, new_schema, shared_server

pytestmark = [pytest.mark.anyio, pytest.mark.services]


async def opening_fails(url: str) -> str:
    with pytest.raises(StoreError) as raised:
        async with open_backend(url).open_store():
            pass
    return str(raised.value)


async def test_no_server_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = await opening_fails(f"postgresql://me:secret@127.0.0.1:{port}/runs")
    assert said.startswith(f"postgresql://me@127.0.0.1:{port}/runs: the server cannot be reached: ")
    assert "secret" not in said


async def test_the_database_does_not_exist() -> None:
    said = await opening_fails(shared_server().url("no_such_database"))
    assert "there is no such database on the server\n  hint: create it with: createdb NAME" in said


async def test_a_wrong_address_is_an_error() -> None:
    assert "no_such_option" in await opening_fails(f"{migrated()}?no_such_option=1")


async def test_an_empty_database_is_not_read() -> None:
    url = _created("empty_one")
    with pytest.raises(StoreError, match="the database is empty"):
        async with open_backend(url).open_reader():
            pass
    assert not await open_backend(url).exists()


async def test_a_check_leaves_no_trace() -> None:
    backend = open_backend(_created("checked_one"))
    await backend.check()
    assert not await backend.exists()


async def test_a_newer_schema_is_refused() -> None:
    url = _created("newer_one")
    async with PostgresBackend(url).open_store():
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO orchestrator.schema_version VALUES (99)")
    said = await opening_fails(url)
    assert "schema version 99, this program knows versions up to" in said
    with pytest.raises(StoreError, match="a newer orchestrator wrote it"):
        async with PostgresBackend(url).open_reader():
            pass


async def test_two_processes_make_the_tables_once() -> None:
    url = _created("made_twice")

    async def make() -> None:
        async with PostgresBackend(url).open_store():
            pass

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(make)
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT version FROM orchestrator.schema_version ORDER BY 1").fetchall()
    assert found == [(number,) for number in range(1, len(database.migrations()) + 1)]


@contextmanager
def pooler(mode: str) -> Iterator[str]:
    """PgBouncer in front of the server; yields the address of a database behind it."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("NO PGBOUNCER HERE: install Debian's pgbouncer; this test did not run")
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-pgbouncer-"))
    port = free_port()
    server = f"host=127.0.0.1 port={shared_server().port} dbname=postgres user=postgres"
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npooled = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = any\npool_mode = {mode}\nunix_socket_dir =\n"
    )
    folder.chmod(0o755)
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with subprocess.Popen(
        [program, folder / "pgbouncer.ini"], user=user, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert any("process up" in line for line in process.stderr)
            yield f"postgresql://postgres@127.0.0.1:{port}/pooled"
        finally:
            process.terminate()
            shutil.rmtree(folder)


async def test_pgbouncer_in_transaction_mode_is_refused() -> None:
    new_schema()
    with pooler("transaction") as url:
        assert "a connection pooler shares one session among several clients" in await opening_fails(url)
        with pytest.raises(StoreError, match="pool_mode = session"):
            async with open_backend(url).open_reader():
                pass


async def test_pgbouncer_in_session_mode_is_used() -> None:
    new_schema()
    with pooler("session") as url:
        backend = open_backend(url)
        async with backend.open_store() as store, backend.open_reader() as reader:
            run = await store.create_run(a_run())
            with backend.lock(run.id, run.name):
                assert open_backend(migrated()).is_locked(run.id)
                assert len(await Harness(store, reader, run).add(3)) == 3


@contextmanager
def shared_sessions(monkeypatch: pytest.MonkeyPatch, session: int | None) -> Iterator[None]:
    """Every connection is given the same session, as PgBouncer does between two transactions."""
    seen = iter(range(1, 1000))
    monkeypatch.setattr(database, "_session_of", lambda _: session if session is not None else next(seen))
    yield


async def test_a_pooler_that_shares_sessions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    url = migrated()
    with shared_sessions(monkeypatch, 7):
        said = await opening_fails(url)
    assert "a connection pooler shares one session among several clients" in said
    assert "pool_mode = session" in said


async def test_a_pooler_with_sessions_of_their_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = new_schema()
    with shared_sessions(monkeypatch, None):
        async with backend.open_store():
            pass


async def test_an_operator_learns_what_risks_commits() -> None:
    backend = new_schema()
    found = {each.subject: each for each in await backend.advice()}
    assert found["postgresql"].hint is None
    assert found["fsync"].hint == "set fsync = on"
    assert "replication" not in found
    assert "transactions" not in found


def _created(name: str) -> str:
    with psycopg.connect(shared_server().url(), autocommit=True) as connection:
        execute: Any = connection.execute
        execute(f"DROP DATABASE IF EXISTS {name}")
        execute(f"CREATE DATABASE {name}")
    return shared_server().url(name)
