"""The job's sections about rows that belong together, and about requests that are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from orchestrator.core.errors import BadRow
from orchestrator.core.section import Section

__all__ = ["Chain", "PromptCache", "turn_of"]


class Chain(Section):
    """Rows that belong together: asked one after the other, each as the next turn of one talk."""

    by: str = Field(min_length=1)
    """The column whose value the rows of one chain have in common."""
    order: str | None = Field(default=None, min_length=1)
    """The column that orders the turns: numbers, or texts that sort, such as ISO dates. Default: as in the input."""
    mode: Literal["previous_response", "conversation", "stateless"] = "previous_response"
    """How a turn knows of those before it: by the id of the response before it; by a conversation object of the
    provider's, made for the chain; or `stateless`, with the turns before it sent along."""
    history_tokens: int = Field(default=100_000, ge=0)
    """How many tokens of earlier turns a `stateless` chain sends along, the latest first, counted roughly. System and
    developer messages are always kept."""


class PromptCache(Section):
    """Help for the provider's prompt cache."""

    key: bool = True
    """Set `prompt_cache_key` to a hash of what requests begin with: model, tools, format and instructions."""
    warm: bool = False
    """Let the first request be answered before the others go, so that they find its beginning in the cache."""


def turn_of(chain: Chain, row: Mapping[str, Any], *, where: str) -> tuple[str, float | str | None]:
    """The chain that a row belongs to, and its place in it; raises ``BadRow``."""
    name = row.get(chain.by)
    if name is None or isinstance(name, dict | list):
        raise BadRow(f"the column {chain.by!r}, by which chain.by ties rows together, holds no value", where=where)
    if chain.order is None:
        return str(name), None
    place = row.get(chain.order)
    if isinstance(place, bool) or not isinstance(place, int | float | str):
        raise BadRow(f"the column {chain.order!r}, which orders a chain, holds no number or text", where=where)
    return str(name), _number(place)


def _number(place: float | str) -> float | str:
    """A number if it is one: CSV has only texts, and "10" must not come before "9".

    Whole numbers stay whole as far as the store can hold them: as floats, long ids and nanoseconds would be alike.
    """
    for kind in (int, float):
        try:
            number = kind(place)
        except ValueError:
            continue
        if isinstance(place, str) or number == place:
            return number if abs(number) < 2**63 else float(number)
    return place
