"""The rows of jobs/press-digest.yaml: what its stage ``speeches`` makes of each row of the input."""

from __future__ import annotations

from typing import Any


def with_president(row: dict[str, Any]) -> dict[str, Any]:
    """Take the title apart: State of the Union 1790, George Washington."""
    speech, president = row["title"].rsplit(", ", 1)
    return {**row, "year": int(speech.split()[-1]), "president": president}
