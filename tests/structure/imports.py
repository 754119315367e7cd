"""The graph of imports: every import statement counts, inside functions and under ``TYPE_CHECKING`` too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from tests.structure.sources import PACKAGE, Module, modules

__all__ = ["cycles", "import_graph", "imported_names"]


def import_graph(files: Sequence[Module] | None = None) -> Mapping[str, set[str]]:
    """The modules that each module names in its import statements."""
    files = modules() if files is None else files
    known = {module.name for module in files}
    return {
        module.name: {_closest(name, known) for name in imported_names(module)} & known - {module.name}
        for module in files
    }


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules of which each reaches every other; sorted. Empty if there is no cycle."""
    reached = {name: _reachable(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in seen if name in reached[other]))
        for name, seen in reached.items()
        if name in seen
    }
    return [list(group) for group in sorted(groups)]


def imported_names(module: Module) -> Iterator[str]:
    """What the module imports of the package; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if _is_ours(alias.name))
            case ast.ImportFrom(module=str(origin), names=names, level=0) if _is_ours(origin):
                yield from (f"{origin}.{alias.name}" for alias in names)


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def _closest(name: str, known: set[str]) -> str:
    """The module that defines a name: ``a.b`` itself if it is a module, else ``a``."""
    return name if name in known else name.rpartition(".")[0]


def _reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen
