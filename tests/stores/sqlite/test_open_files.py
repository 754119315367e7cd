"""A database that is moved, deleted or replaced while it is open is noticed by its inode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.errors import StoreError
from orchestrator.stores.sqlite.backend import SqliteBackend

pytestmark = pytest.mark.anyio


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [delete, move, replace])
@pytest.mark.parametrize("name", ["r.db", "r.db-wal", "r.db.lock"])
async def test_a_change_of_each_file_is_noticed(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    backend = SqliteBackend(tmp_path / "r.db")
    async with backend.open_store() as store:
        with backend.lock(1, "r-1"):
            store.check_in_place()
            change(tmp_path / name)
            with pytest.raises(StoreError, match="was moved, deleted or replaced") as refused:
                store.check_in_place()
    assert refused.value.where == str(tmp_path / name)


async def test_a_link_to_another_database_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("r.db")
    (tmp_path / "other.db").touch()
    async with SqliteBackend(tmp_path / "link.db").open_store() as store:
        store.check_in_place()
        (tmp_path / "link.db").unlink()
        (tmp_path / "link.db").symlink_to("other.db")
        with pytest.raises(StoreError):
            store.check_in_place()


async def test_other_files_may_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with SqliteBackend(tmp_path / "a" / "r.db").open_store() as store:
        store.check_in_place()
        (tmp_path / "a" / "note").touch()
        store.check_in_place()
