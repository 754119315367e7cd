"""The record that jobs/extract.yaml extracts from each speech; the model reads its docstrings and descriptions."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, Field


class Tone(Enum):
    HOPEFUL = "hopeful"
    SOBER = "sober"
    WARNING = "warning"


class Proposal(BaseModel):
    """Something that the speaker asks for."""

    what: str = Field(description="In at most twelve words.")
    cost_usd: float | None = Field(description="In dollars, where the text names a sum.")


class Speech(BaseModel):
    """The facts of a part of a State of the Union message."""

    topic: str = Field(description="Its main topic, in at most five words.")
    countries: list[str] = Field(description="Foreign countries that are named, in today's English names.")
    is_about_war: bool
    tone: Tone
    latest_year: int | None = Field(description="The latest year that the text names.")
    main_proposal: Proposal | None
