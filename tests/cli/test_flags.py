"""Flags on the command line: rows that a person marked are exported and queued again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from orchestrator.stores.backends import open_backend

from .conftest import RUN, Ended, write_config

Cli: TypeAlias = Callable[..., Ended]
AT = ("greet-1", "--db", "runs.db")


def flag_rows(database: Path, flags: Mapping[str, tuple[str, str]]) -> None:
    """Set flags as the web view does."""

    async def work() -> None:
        backend = open_backend(database)
        async with backend.open_store() as store, backend.open_reader() as reader:
            run = await reader.run("greet-1")
            assert run is not None
            for key, (flag, note) in flags.items():
                request = await reader.request(run.id, key)
                assert request is not None
                assert await store.set_flag(request.id, flag, note, 1.0)

    anyio.run(work)


@pytest.fixture
def failed_run(folder: Path, cli: Cli) -> Path:
    """Nine rows of which every one failed; three have flags."""
    write_config(folder, faults="refusal: 1")
    assert cli(*RUN, "--limit", "9", "--progress", "none").code == 3
    flags = {"row-1": ("again", "the date is odd"), "row-4": ("again", ""), "row-5": ("good", "")}
    flag_rows(folder / "runs.db", flags)
    return folder


def test_an_export_has_flags_and_notes(failed_run: Path, cli: Cli) -> None:
    lines = [json.loads(line) for line in cli("export", *AT).out.splitlines()]
    noted = {line["key"]: (line["flag"], line["note"]) for line in lines if line["flag"]}
    assert noted == {"row-1": ("again", "the date is odd"), "row-4": ("again", None), "row-5": ("good", None)}
    assert [*lines[0]][-2:] == ["flag", "note"]
    assert cli("export", *AT, "-o", "rows.csv").code == 0
    with (failed_run / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["key"] for row in table if row["flag"] == "again"] == ["row-1", "row-4"]
    assert table[1]["note"] == "the date is odd"


def test_only_rows_with_a_flag_are_exported(failed_run: Path, cli: Cli) -> None:
    lines = cli("export", *AT, "--flag", "again").out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["row-1", "row-4"]


def test_only_rows_with_a_flag_are_queued_again(failed_run: Path, cli: Cli) -> None:
    ended = cli("retry", *AT, "--flag", "again")
    assert ended.out.startswith("2 requests of greet-1 are queued again")
    status = json.loads(cli("status", *AT, "--json").out)
    assert (status["requests"]["pending"], status["requests"]["failed"]) == (2, 7)


def test_a_flag_and_a_code_are_both_asked_for(failed_run: Path, cli: Cli) -> None:
    code = json.loads(cli("export", *AT, "--flag", "good").out)["error"]["code"]
    assert cli("retry", *AT, "--flag", "good", "--code", code).out.startswith("1 requests of greet-1")
    assert "nothing of greet-1 matches" in cli("retry", *AT, "--flag", "good").out


@pytest.mark.parametrize("command", ["retry", "export"])
def test_a_flag_that_no_row_has_is_refused_with_those_there_are(failed_run: Path, cli: Cli, command: str) -> None:
    ended = cli(command, *AT, "--flag", "agian")
    assert ended.code == 2
    assert "no row of greet-1 has the flag 'agian'" in ended.err
    assert "its flags: again, good" in ended.err
