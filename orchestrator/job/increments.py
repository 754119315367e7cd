"""The increments section of a job: how its rows are compared with those that earlier runs answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from orchestrator.core.section import Section
from orchestrator.job.documents.values import Duration

__all__ = ["Increments"]

_SHARE_RULE = "must be a share from 0% to 100%, such as 20%"


def _share(value: object) -> float:
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(text, str):
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        elif isinstance(text, (int, float, Decimal)) and not isinstance(text, bool):
            share = float(text)
        else:
            raise ValueError
    except ValueError:
        raise ValueError(_SHARE_RULE) from None
    if not 0 <= share <= 1:
        raise ValueError(_SHARE_RULE)
    return share


Share: TypeAlias = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^[0-9.]+%?$"}, {"type": "number"}]}),
]


class Increments(Section):
    """For the same job night after night: only rows that are new or changed are asked."""

    dataset: str | None = Field(default=None, max_length=100, pattern="^[a-z0-9][a-z0-9-]*$")
    """The name under which the answers are kept across runs. Default: the job's name."""
    changed_request: Literal["stop", "ask", "keep"] = "stop"
    """What to do when the prompt, the model or the schema changed: `stop` and report how many rows that concerns,
    `ask` all of them again, or `keep` the old answers and ask only new and changed rows."""
    removed: Literal["keep", "mark", "drop"] = "mark"
    """What to do with rows that are no longer in the input: `keep` them in the dataset, `mark` them as removed and
    leave them out of exports, or `drop` them from the dataset."""
    removed_at_most: Share = Field(default=0.2, examples=["20%"])
    """If more of the dataset's rows are missing from the input at once, nothing is sent and the run halts
    (`input_shrank`). `100%` allows any."""
    ask_again_after: Annotated[Duration, Field(gt=0)] | None = None
    """Ask a row again once its answer is this old; spread over the last fifth of that time. Default: never."""
    give_up_after: int | None = Field(default=None, ge=1)
    """After so many nights on which a row failed, leave it until it changes. Default: try every night."""
