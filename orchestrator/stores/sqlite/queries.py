"""Reads the SQL files: the statements in them by name, and the migrations."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

__all__ = ["migrations", "queries", "rows_of", "statements"]

_SQL = files("orchestrator.stores.sqlite").joinpath("sql")
_HEADER = "-- name: "
_TAKES = "-- takes: "
_PARAMETER = re.compile(r":(\w+)")


def queries(file: str, folder: Traversable = _SQL) -> dict[str, str]:
    """The statements of one file by the name in their header, ``-- name: recall``.

    A line ``-- takes: request_id, number`` may follow the header, or several: then the statement takes a tuple of
    these, which SQLite binds in half the time. The others take a mapping. Other comment lines between a header and
    its statement are left out.
    """
    found: dict[str, list[str]] = {}
    ordered: dict[str, list[str]] = {}
    name = ""
    for line in folder.joinpath(file).read_text(encoding="utf-8").splitlines():
        if line.startswith(_HEADER):
            name = line.removeprefix(_HEADER).strip()
            if name in found:
                raise ValueError(f"{file} names two statements {name!r}")
            found[name] = []
        elif name and line.startswith(_TAKES):
            ordered.setdefault(name, []).extend(line.removeprefix(_TAKES).replace(",", " ").split())
        elif name and line.strip() and not line.startswith("--"):
            found[name].append(line)
    texts = {name: "\n".join(lines).removesuffix(";") for name, lines in found.items()}
    return texts | {name: _in_order(texts[name], parameters) for name, parameters in ordered.items()}


def _in_order(statement: str, parameters: list[str]) -> str:
    """The statement with its parameters numbered in a given order."""
    if {*parameters} != {*_PARAMETER.findall(statement)}:
        raise ValueError(f"the header names other parameters than the statement: {statement}")
    return _PARAMETER.sub(lambda found: f"?{parameters.index(found[1]) + 1}", statement)


def rows_of(connection: sqlite3.Connection, statement: str, parameters: Mapping[str, Any]) -> list[sqlite3.Row]:
    """What a statement finds, each row with its columns by name."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(statement, parameters).fetchall()


def migrations() -> list[str]:
    """The scripts that make the schema, in order: the first brings an empty database to version 1, and so on."""
    found = sorted(_SQL.joinpath("migrations").iterdir(), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in found if file.name.endswith(".sql")]


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one, with the comments inside them, which SQLite keeps in the schema."""
    lines: list[str] = []
    for line in script.splitlines():
        if not lines and (not line.strip() or line.startswith("--")):
            continue
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
