"""The driver is chosen by the address, and what every driver says is said in one place."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import UsageError
from orchestrator.stores.backends import open_backend
from orchestrator.stores.cost_groupings import COST_GROUPINGS, check_groupings
from orchestrator.stores.sqlite.backend import SqliteBackend


@pytest.mark.parametrize("address", ["runs.db", "some/folder/runs.db", "/data/postgresql", "postgresql.db"])
def test_a_path_is_a_sqlite_file(address: str) -> None:
    backend = open_backend(address)
    assert isinstance(backend, SqliteBackend)
    assert (backend.address, backend.local_path) == (address, Path(address))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host:5433/runs", "postgresql://me@host:5433/runs"),
        ("postgres://host/runs?password=secret&sslmode=require", "postgres://host/runs?sslmode=require"),
        ("postgresql:///runs", "postgresql:///runs"),
        ("postgresql://me:se%40cret@[::1]/runs", "postgresql://me@[::1]/runs"),
        ("postgresql://me:p@ss@host/runs", "postgresql://me@host/runs"),
        ("postgresql://me:secret@[host/runs", "postgresql://…"),
    ],
)
def test_a_url_is_a_server_whose_password_is_never_shown(address: str, shown: str) -> None:
    backend = open_backend(address)
    assert type(backend).__name__ == "PostgresBackend"
    assert backend.address == shown


def test_a_server_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [name for name in sys.modules if name.startswith("orchestrator.stores.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match="needs a package that is not installed: psycopg") as raised:
        open_backend("postgresql://host/runs")
    assert raised.value.hint == (
        "pip install 'responses-orchestrator[postgres]', or name another file with --db FILE"
    )


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    anyio.run(open_backend(tmp_path / "runs.db").check)
    assert list(tmp_path.iterdir()) == []


def test_costs_are_grouped_by_known_names_and_metadata() -> None:
    check_groupings([*COST_GROUPINGS, "metadata.team"])
    for wrong in ("colour", "metadata.", "metadata"):
        with pytest.raises(
            UsageError, match=f"by '{wrong}'\n  hint: .*run, model, tier, day, stage, state, lane, endpoint, metadata"
        ):
            check_groupings(["model", wrong])
