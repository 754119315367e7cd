"""The body of a create call as a person reads it: its texts one after the other, then everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from orchestrator.core import exact_json

__all__ = ["SHOWN_CHARACTERS", "prompt_parts", "text_object"]

# A browser lays out long texts slowly; the rest is a link away.
SHOWN_CHARACTERS = 60_000
_TEXTS = ("instructions", "input")


def prompt_parts(sent: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the texts of a request by their names, and the other fields as JSON."""
    parts = [part for name in _TEXTS for part in _texts(name, sent.get(name))]
    rest = {name: value for name, value in sent.items() if name not in _TEXTS}
    return [{"name": name, **text_object(text)} for name, text in [*parts, ("other fields", _json(rest))]]


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case None:
            return
        case str():
            yield name, value
        case [*items] if items and all(isinstance(each, dict) for each in items):
            for item in items:
                yield f"{name}: {item.get('role') or item.get('type') or 'item'}", _text_of(item)
        case _:
            yield name, _json(value)


def _text_of(item: dict[str, Any]) -> str:
    """The text of one message; other items, and what a message holds beside text, stay JSON."""
    match item.get("content"):
        case str() as text:
            return text
        case [*contents] if contents and all(isinstance(each, dict) for each in contents):
            return "\n\n".join(
                each["text"] if isinstance(each.get("text"), str) else _json(each) for each in contents
            )
    return _json(item)


def _json(value: Any) -> str:
    return exact_json.dumps(value, option=orjson.OPT_INDENT_2).decode()


def text_object(text: str) -> dict[str, Any]:
    """Returns the beginning of a text, and how long it is."""
    return {
        "text": text[:SHOWN_CHARACTERS],
        "characters": len(text),
        "is_cut": len(text) > SHOWN_CHARACTERS,
    }
