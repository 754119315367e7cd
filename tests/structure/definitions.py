"""Which names a file of the repository defines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["defined_names"]

_SQL_NAME = re.compile(r"^(?:-- name: |CREATE (?:TABLE|VIEW|INDEX|TRIGGER) )(\w+)", re.MULTILINE)


def defined_names(path: Path) -> set[str]:
    """Functions, classes, constants and members (``Class.member``); of SQL, its statements, tables and views."""
    text = path.read_text()
    return set(_SQL_NAME.findall(text) if path.suffix == ".sql" else _python_names(ast.parse(text).body))


def _python_names(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
                yield from (f"{name}.{member}" for member in _python_names(node.body))
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
