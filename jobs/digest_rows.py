"""What jobs/press-digest.yaml needs of Python: the rows of its stage ``speeches``, and the record of ``facts``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from records import Tone


class Facts(BaseModel):
    """The facts of a part of a speech."""

    gist: str = Field(description="What it says, in one sentence.")
    countries: list[str] = Field(description="Foreign countries that are named, in today's English names.")
    tone: Tone


def with_president(row: dict[str, Any]) -> dict[str, Any]:
    """Take the title apart: State of the Union 1790, George Washington."""
    speech, president = row["title"].rsplit(", ", 1)
    return {**row, "year": int(speech.split()[-1]), "president": president}
