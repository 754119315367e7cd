"""SQL lives in .sql files; this finds the statements in them by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

__all__ = ["migrations", "queries", "statements"]

_SQL = files("orchestrator.stores").joinpath("sql")
_HEADER = "-- name: "


def queries(file: str) -> dict[str, str]:
    """The statements of one file by the name in their header, ``-- name: claim_request``.

    Comment lines between a header and its statement are for people and are left out.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for line in _SQL.joinpath(file).read_text(encoding="utf-8").splitlines():
        if line.startswith(_HEADER):
            name = line.removeprefix(_HEADER).strip()
            if name in found:
                raise ValueError(f"{file} names two statements {name!r}")
            found[name] = []
        elif name and line.strip() and not line.startswith("--"):
            found[name].append(line)
    return {name: "\n".join(lines).removesuffix(";") for name, lines in found.items()}


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
