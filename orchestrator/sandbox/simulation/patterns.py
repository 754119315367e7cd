"""Generates a text that matches a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from random import Random
from typing import Any, TypeAlias

__all__ = ["matching_text"]

# Python's own parser of expressions, which has no public name; it has had this one since 3.11.
_PARSER: Any = import_module("re._parser")
_MANY = 3
_KINDS = {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "w"}
_OTHERS = "ax7 -_."

Node: TypeAlias = tuple[Any, Any]


def matching_text(pattern: str, rng: Random) -> str | None:
    """A short random text that matches the expression; None if none is found."""
    try:
        text = _write(_PARSER.parse(pattern), rng)
        return text if re.search(pattern, text) else None
    except (re.error, RecursionError, LookupError, ValueError):
        return None


def _write(nodes: Iterable[Node], rng: Random) -> str:
    return "".join(_one(str(kind), value, rng) for kind, value in nodes)


def _one(kind: str, value: Any, rng: Random) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "ANY":
            return "a"
        case "IN":
            return _member(value, rng)
        case "NOT_LITERAL":
            return "b" if value == ord("a") else "a"
        case "BRANCH":
            return _write(rng.choice(value[1]), rng)
        case "SUBPATTERN":
            return _write(value[-1], rng)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = value
            return "".join(_write(inner, rng) for _ in range(rng.randint(least, min(most, max(least, _MANY)))))
        case _:
            # Anchors and lookarounds write nothing; the final search checks them.
            return ""


def _member(choices: list[Node], rng: Random) -> str:
    """A character of a class such as ``[A-Z_]``, or of none of its members in ``[^…]``."""
    if str(choices[0][0]) == "NEGATE":
        return next(
            each for each in _OTHERS if not any(_holds(str(kind), value, each) for kind, value in choices[1:])
        )
    kind, value = rng.choice(choices)
    match str(kind):
        case "RANGE":
            return chr(rng.randint(value[0], min(value[1], value[0] + 25)))
        case "CATEGORY":
            return _KINDS.get(str(value), "x" if "NOT" in str(value) else "a")
        case _:
            return chr(value)


def _holds(kind: str, value: Any, character: str) -> bool:
    match kind:
        case "LITERAL":
            return bool(value == ord(character))
        case "RANGE":
            return bool(value[0] <= ord(character) <= value[1])
        case _:
            return character in {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " "}.get(str(value), _OTHERS)
