"""The job's fields about answers that fall short: cut off, or not of the requested shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from orchestrator.core.section import Section
from orchestrator.job.requests.field_checks import LEAST_OUTPUT_TOKENS

__all__ = ["OnIncomplete", "OnInvalid", "RaiseMaxOutputTokens", "Repairs"]


class RaiseMaxOutputTokens(Section):
    """Send the request again, with a higher `max_output_tokens`."""

    raise_max_output_tokens_to: int = Field(ge=LEAST_OUTPUT_TOKENS)
    """The `max_output_tokens` of the further attempts."""


class Repairs(Section):
    """Send the model what is wrong with its answer."""

    repairs: int = Field(ge=1, le=10)
    """At most this often for one row."""


def _kind_of_on_incomplete(value: Any) -> str | None:
    if isinstance(value, (dict, RaiseMaxOutputTokens)):
        return "raise"
    return "word" if value in ("fail", "keep") else None


OnIncomplete: TypeAlias = Annotated[
    Annotated[Literal["fail", "keep"], Tag("word")] | Annotated[RaiseMaxOutputTokens, Tag("raise")],
    Discriminator(
        _kind_of_on_incomplete,
        custom_error_type="mistake",
        custom_error_message="{reason}",
        custom_error_context={"reason": "must be fail, keep or {raise_max_output_tokens_to: N}", "hint": None},
    ),
]


def _kind_of_on_invalid(value: Any) -> str | None:
    if isinstance(value, (dict, Repairs)):
        return "repairs"
    return "word" if value in ("fail", "retry", "repair") else None


OnInvalid: TypeAlias = Annotated[
    Annotated[Literal["fail", "retry", "repair"], Tag("word")] | Annotated[Repairs, Tag("repairs")],
    Discriminator(
        _kind_of_on_invalid,
        custom_error_type="mistake",
        custom_error_message="{reason}",
        custom_error_context={"reason": "must be fail, retry, repair or {repairs: N}", "hint": None},
    ),
]
