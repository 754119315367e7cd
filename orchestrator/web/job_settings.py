"""The settings of a stored job for a report that is sent to others: without prompts, headers and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.core import exact_json
from orchestrator.web.visible_text import shortened

__all__ = ["settings_of"]

_MOST, _LONGEST = 80, 100
# Below the first level: what holds texts of the user, or may hold a key.
_HIDDEN = frozenset(
    (
        "input", "instructions", "prompt", "messages", "content", "description", "text_template", "system",
        "headers", "authorization", "server_url", "metadata", "schema", "examples", "user", "safety_identifier",
    )
)  # fmt: skip
_SECRET = ("key", "token", "secret", "password", "auth")
# These have such a word in their name and are numbers or columns.
_PLAIN = ("key", "max_output_tokens", "max_tokens", "prompt_cache_key")


def settings_of(spec_json: str) -> list[tuple[str, str]]:
    """The fields of a stored job that are numbers, switches and short words, by their paths; at most 80 of them."""
    spec = exact_json.loads(spec_json.encode())
    found = list(_leaves((), spec)) if isinstance(spec, dict) else []
    more = [("…", f"{len(found) - _MOST:,} more")] if len(found) > _MOST else []
    return [*found[:_MOST], *more]


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves((*path, str(name)), inner)
    elif value is not None and value != []:
        yield shortened(".".join(path), _LONGEST), _shown(path, value)


def _shown(path: tuple[str, ...], value: Any) -> str:
    name = path[-1].lower()
    if any(word in name for word in _SECRET) and name not in _PLAIN and not isinstance(value, int | float):
        return "not shown"
    if any(part in _HIDDEN for part in path[1:]):
        return f"{len(value):,} characters" if isinstance(value, str) else "not shown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return (
            shortened(", ".join(str(each) for each in value), _LONGEST)
            if _is_plain(value)
            else f"{len(value)} of them"
        )
    return shortened(str(value), _LONGEST)


def _is_plain(values: list[Any]) -> bool:
    return all(isinstance(each, str | int | float) for each in values)
