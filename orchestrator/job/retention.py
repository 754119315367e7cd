"""The job's section ``retention``: what is kept of a run, at the provider and here, and for how long."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from orchestrator.core.section import Section
from orchestrator.job.documents.values import Duration

__all__ = ["DeleteAfter", "RetentionSection", "delete_ended_before"]

_AFTER = re.compile(r"delete_after +(?P<duration>\S.*)")


class DeleteAfter(Section):
    """Delete each copy some time after its response ended."""

    delete_after: Annotated[Duration, Field(gt=0)]
    """How long after its end a response is deleted at the provider. There is no daemon: the next `run`, or
    `purge --due`, does what is due."""


def _in_words(value: Any) -> Any:
    """``delete_after 7d`` on one line is the same as the mapping."""
    found = _AFTER.fullmatch(value.strip()) if isinstance(value, str) else None
    return {"delete_after": found["duration"]} if found else value


def _kind(value: Any) -> str | None:
    if isinstance(value, (dict, DeleteAfter)):
        return "after"
    return "word" if value in ("keep", "delete_after_export") else None


Provider: TypeAlias = Annotated[
    Annotated[Literal["keep", "delete_after_export"], Tag("word")] | Annotated[DeleteAfter, Tag("after")],
    Discriminator(
        _kind,
        custom_error_type="mistake",
        custom_error_message="{reason}",
        custom_error_context={"reason": "must be keep, delete_after_export or {delete_after: 7d}", "hint": None},
    ),
    BeforeValidator(_in_words),
]


class RetentionSection(Section):
    """What is kept of a run once it is over."""

    provider: Provider = "keep"
    """The provider's copies of responses, conversations and uploaded files: `keep` them, delete them once all results
    are in a file (`delete_after_export`), or some time after each response ended (`{delete_after: 7d}`)."""
    inputs: Literal["keep", "drop"] = "keep"
    """The data of settled rows in the database: `drop` it once all results are in a file. Such rows cannot be tried
    again."""
    outputs: Literal["keep", "drop"] = "keep"
    """The answers in the database, with what tools said: `drop` them once all results are in a file."""

    @property
    def waits_for_export(self) -> bool:
        """Whether something happens only when results were written to a file."""
        return self.provider == "delete_after_export" or "drop" in (self.inputs, self.outputs)


def delete_ended_before(retention: RetentionSection, *, now: float, exported_at: float | None) -> float | None:
    """Returns the time up to which ended responses must be deleted at the provider; None if none must be."""
    match retention.provider:
        case DeleteAfter(delete_after=seconds):
            return now - seconds
        case "delete_after_export":
            # What ended later, after a retry, is not in that file.
            return exported_at
        case _:
            return None
