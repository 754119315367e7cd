"""Which models are about to be shut down, as far as it is announced, and what takes their place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from orchestrator.policy.pricing.rates import strip_date

__all__ = ["ANNOUNCED", "shutdown_warning"]

# Days before a shutdown from which on it is reported.
_NEAR = 120

# As announced in developers.openai.com/api/docs/deprecations, read in November 2026.
ANNOUNCED: Mapping[str, date] = {
    **dict.fromkeys(("o3-deep-research", "o4-mini-deep-research", "computer-use-preview"), date(2026, 7, 23)),
    **dict.fromkeys(
        ("gpt-4.1-nano", "o4-mini", "o3-mini", "o1", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"), date(2026, 10, 23)
    ),
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-pro", "o3", "o3-pro"), date(2026, 12, 11)),
    **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"), date(2027, 1, 14)),
    **dict.fromkeys(("gpt-5.1", "gpt-5.4-nano"), date(2027, 4, 1)),
}
_SUCCESSORS = {
    "gpt-5": "gpt-6.1-sol",
    "gpt-5-mini": "gpt-6.1-terra",
    "gpt-4.1": "gpt-6-luna",
    "gpt-4.1-mini": "gpt-6-luna",
    "gpt-4o": "gpt-6-luna",
    "gpt-4o-mini": "gpt-6-luna",
}


def shutdown_warning(model: str, today: date, *, offered_until: date | None = None) -> str | None:
    """Returns a sentence about a model that is shut down soon, or was; None for any other.

    ``offered_until`` is the date that the provider's own list of models gives, if it does; it takes precedence.
    """
    name = model if model in ANNOUNCED else strip_date(model)
    until = offered_until or ANNOUNCED.get(name)
    if until is None or (until - today).days > _NEAR:
        return None
    instead = f"; {_SUCCESSORS[name]} is named to take its place" if name in _SUCCESSORS else ""
    if until <= today:
        return f"the model {model} was shut down on {until}{instead}"
    days = (until - today).days
    return f"the model {model} is shut down on {until}, in {days} {'day' if days == 1 else 'days'}{instead}"
