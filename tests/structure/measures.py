"""Sizes and names of the package.

The length of a function is the number of lines from its ``def`` to its end, without its docstring and decorators.
Parameters are all that a caller can give, keyword-only ones included; ``self`` and ``cls`` do not count, and neither
do the fields of a dataclass. Lines of code are all lines of the files, blank ones and comments included. A method
without a docstring counts as documented if a protocol of the package documents a method of its name.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from statistics import median

from tests.structure.sources import Module, modules, python_files

__all__ = [
    "docstring_share",
    "duplicate_classes",
    "function_length",
    "function_lengths",
    "lines_of_test_per_line",
    "median_length",
    "most_parameters",
    "parameter_count",
    "percentile_90",
    "shared_file_names",
    "undocumented",
]

_PER_PACKAGE = {"__init__.py", "__main__.py"}


def function_lengths() -> list[int]:
    """The length of every function of the package, ascending."""
    return sorted(function_length(function) for module in modules() for function in module.functions())


def median_length(lengths: list[int]) -> float:
    """The length that half of the functions do not exceed."""
    return median(lengths)


def percentile_90(lengths: list[int]) -> int:
    """The length that nine of ten functions do not exceed; ``lengths`` is ascending."""
    return lengths[int(len(lengths) * 0.9)]


def most_parameters() -> list[tuple[int, str]]:
    """The number of parameters of each function with its place, the largest first."""
    counted = (
        (parameter_count(function), f"{module.path}:{function.lineno} {function.name}")
        for module in modules()
        for function in module.functions()
    )
    return sorted(counted, reverse=True)


def duplicate_classes() -> Mapping[str, list[str]]:
    """Public class names that several modules define, with their places."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{module.path}:{node.lineno}")
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def shared_file_names() -> Mapping[str, list[str]]:
    """File names that occur in several folders of the package, with their paths."""
    names = Counter(PurePath(module.path).name for module in modules())
    shared = sorted(name for name, count in names.items() if count > 1 and name not in _PER_PACKAGE)
    return {name: [each.path for each in modules() if PurePath(each.path).name == name] for name in shared}


def docstring_share() -> float:
    """The share of public modules, classes, functions and methods that have a docstring."""
    return 1 - len(undocumented()) / sum(1 for module in modules() for _ in _public(module))


@cache
def undocumented() -> tuple[str, ...]:
    """The public names without a docstring, with their places."""
    described = _described_methods()
    return tuple(
        f"{module.path}:{getattr(node, 'lineno', 1)} {name}"
        for module in modules()
        for name, node in _public(module)
        if ast.get_docstring(node) is None and not ("." in name and name.rpartition(".")[2] in described)
    )


def lines_of_test_per_line() -> float:
    """Lines of the tests for each line of the package."""
    return _lines(python_files("tests")) / _lines(modules())


def function_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return whole
    docstring = function.body[0]
    return whole - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """What a caller can give one by one; ``*args`` and ``**kwargs`` do not count."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len([each for each in every if each.arg not in ("self", "cls")])


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(module: Module) -> Iterator[tuple[str, _Documented]]:
    """The module itself and its public names; the parts of private classes are not among them."""
    yield module.name, module.tree
    yield from _members(module.tree.body)


def _members(body: Iterable[ast.stmt]) -> Iterator[tuple[str, _Documented]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from ((f"{node.name}.{name}", member) for name, member in _members(node.body))


def _described_methods() -> frozenset[str]:
    """The methods that a protocol of the package documents for all its implementations."""
    return frozenset(
        member.name
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
        for member in node.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(member)
    )


def _lines(files: Iterable[Module]) -> int:
    return sum(len(each.text.splitlines()) for each in files)
