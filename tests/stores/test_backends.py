"""The driver is chosen by the address, and what every driver says is said in one place."""

from __future__ import annotations

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
    "address", ["postgresql://me@host/runs", "postgres://host/runs", Path("postgresql://host/runs")]
)
def test_a_server_is_refused_with_a_hint(address: str | Path) -> None:
    with pytest.raises(UsageError, match="cannot keep runs in postgres") as raised:
        open_backend(address)
    assert raised.value.hint == "only SQLite files are supported: name another file with --db FILE"


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    anyio.run(open_backend(tmp_path / "runs.db").check)
    assert list(tmp_path.iterdir()) == []


def test_costs_are_grouped_by_known_names_and_metadata() -> None:
    check_groupings([*COST_GROUPINGS, "metadata.team"])
    for wrong in ("colour", "metadata.", "metadata"):
        with pytest.raises(
            UsageError, match=f"by '{wrong}'\n  hint: .*run, model, tier, day, stage, state, lane, metadata"
        ):
            check_groupings(["model", wrong])
