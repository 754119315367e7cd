"""The scripts that make and upgrade the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

__all__ = ["migrations", "statements"]

_SCRIPTS = files("orchestrator.stores.sqlite").joinpath("sql", "migrations")


def migrations() -> list[str]:
    """The scripts that make the schema, in order: the first brings an empty database to version 1, and so on."""
    found = sorted(_SCRIPTS.iterdir(), key=lambda file: file.name)
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
