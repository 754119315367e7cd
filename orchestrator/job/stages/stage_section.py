"""The ``stages`` section of a job file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from orchestrator.core.money import Picodollars, parse_usd
from orchestrator.core.section import Section
from orchestrator.job.chains import PromptCache
from orchestrator.job.documents.values import Duration, Usd
from orchestrator.job.incomplete import OnIncomplete, OnInvalid
from orchestrator.job.lane_choice import LaneName

__all__ = ["AtMost", "Expand", "StageSection"]


class Expand(Section):
    """Makes several rows of one: the parts of a text, or the items of a list."""

    text: str | None = Field(default=None, examples=["{{ body }}"])
    """The text to split. Each row that is made has `part`, `part_number` and `part_count`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of a part, counted as estimates count them."""
    overlap: int = Field(default=0, ge=0)
    """How many tokens of the part before it a part begins with."""
    list: str | None = Field(default=None, examples=["{{ facts.people }}"])
    """A list, of which each item becomes a row, with `item`, `item_number` and `item_count`."""
    at_most: int = Field(default=1000, ge=1)
    """The most rows that one row may become; a row that would become more fails."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.text is None) == (self.list is None):
            raise ValueError("must hold either text or list")
        if self.text is not None and self.max_tokens is None:
            raise ValueError("needs max_tokens beside text")
        if self.max_tokens is not None and self.overlap >= self.max_tokens:
            raise ValueError("must have an overlap of less than max_tokens")
        return self


class AtMost(Section):
    """How many of its rows a group may lack."""

    at_most: str = Field(pattern=r"^\d+(\.\d+)?%$", examples=["5%"])
    """A share of the rows, in percent."""

    @property
    def share(self) -> float:
        """The share, from 0 to 1."""
        return float(self.at_most.removesuffix("%")) / 100


class StageBudget(Section):
    """Money that the other stages leave to this one, within the budget of the job."""

    usd: Usd = Field(gt=0)
    """In US dollars. The stage may use more of the budget of the job, as far as others have nothing set apart."""

    @property
    def pusd(self) -> Picodollars:
        """In picodollars."""
        return parse_usd(self.usd)


class StageSection(Section):
    """One stage of a pipeline: rows from an earlier stage, and what is asked of each of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    from_: str = Field(alias="from", min_length=1)
    """Where its rows come from: `input`, or a stage that stands before it."""
    where: str | None = None
    """A template; rows for which it gives false, null, zero or nothing are left out."""
    expand: Expand | None = None
    """Makes several rows of each."""
    rows: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$", examples=["tools:split"])
    """A Python function, as `module:function`: it receives a row and returns None (the row is left out), a dict or
    several."""
    group_by: str | list[str] | None = None
    """Makes one row of several: those that one row became (`parent`), or those with equal values in a column or a
    list of columns; `[]` makes one of all. The template reads them as `rows`."""
    missing: Literal["fail", "any"] | AtMost = "fail"
    """What happens to a group if some of its rows failed: it fails, or is asked without them."""
    request: dict[str, Any] | None = None
    """As `request` of a job without stages. A stage without it only makes rows."""
    max_input_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of the rows of one request; a larger group is asked in parts, whose answers are merged."""
    merge: dict[str, Any] | None = None
    """The fields of `request` that are replaced where the answers of parts are merged."""
    output_model: str | None = None
    """As in a job without stages."""
    on_incomplete: OnIncomplete = "fail"
    """As in a job without stages."""
    on_invalid: OnInvalid = "fail"
    """As in a job without stages."""
    handlers: dict[str, str] = Field(default_factory=dict, examples=[{"look_up": "tools:look_up"}])
    """As in a job without stages; `tool_timeout` is that of the job."""
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    """As in a job without stages; default: as the job says."""
    attempts: int | None = Field(default=None, ge=1, le=100)
    """The most attempts of one request of this stage; default: `retry.attempts` of the job."""
    duplicates: Literal["once", "each"] | None = None
    """As in a job without stages; default: as the job says."""
    reuse: Literal["never", "same-request"] | None = None
    """As in a job without stages; default: as the job says."""
    reuse_max_age: Annotated[Duration, Field(gt=0)] | None = None
    """As in a job without stages; default: as the job says."""
    prompt_cache: PromptCache | None = None
    """As in a job without stages; default: as the job says."""
    lane: LaneName | None = None
    """As in a job without stages; default: as the job says."""

    budget: StageBudget | None = None
    """What is set apart for this stage of the job's budget."""

    @property
    def group_columns(self) -> tuple[str, ...] | None:
        """The columns that rows of one group share; None if it groups by parent, or not at all."""
        if self.group_by is None or self.group_by == "parent":
            return None
        return (self.group_by,) if isinstance(self.group_by, str) else tuple(self.group_by)

    @property
    def multiplies(self) -> bool:
        """Whether one row can become several."""
        return self.expand is not None or self.rows is not None
