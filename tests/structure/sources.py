"""The files that the measures read; each is read and parsed once, and nothing of the package is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "Module", "modules", "python_files", "repository_files"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "orchestrator"

# Where people write text: code, its tests, its documentation and its examples.
_WRITTEN = ("orchestrator", "tests", "docs", "benchmarks", "configs", "jobs")
_LOOSE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")
_SUFFIXES = {".py", ".sql", ".md", ".yaml", ".toml"}


@dataclass(frozen=True)
class Module:
    """A Python file; ``path`` is relative to the repository, ``name`` is what an import statement calls it."""

    path: str
    text: str

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones included."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package."""
    return python_files(PACKAGE)


@cache
def python_files(folder: str) -> tuple[Module, ...]:
    return tuple(Module(path, (ROOT / path).read_text()) for path in repository_files() if _is_python(path, folder))


@cache
def repository_files() -> tuple[str, ...]:
    """The paths of all files in which people write text, in their order."""
    found = (path for folder in _WRITTEN for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES)
    written = (path.relative_to(ROOT).as_posix() for path in found)
    return (*sorted(written), *(name for name in _LOOSE if (ROOT / name).exists()))


def _is_python(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") and path.endswith(".py")
