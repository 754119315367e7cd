"""Reads the SQL files: the statements in them by name."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ["queries"]

_SQL = files("orchestrator.stores.sql").joinpath("statements")
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
