"""How much of an input file may be in memory at once."""

from __future__ import annotations

from pydantic import Field

from orchestrator.core.section import Section

__all__ = ["InputCaps"]

_MIB = 2**20


class InputCaps(Section):
    """Bounds of what an input file may hold, so that a damaged or hostile one fails early and in little memory."""

    line_bytes: int = Field(default=64 * _MIB, ge=1024)
    """The longest line (jsonl, csv) and the largest text file, in bytes."""
    field_characters: int = Field(default=32 * _MIB, ge=1024)
    """The longest field of a CSV file, in characters. A missing quotation mark makes the rest of a file one field."""
    columns: int = Field(default=50_000, ge=1)
    """The most columns of a CSV file."""
    expansion: int = Field(default=200, ge=1)
    """How many times its size a `.gz` file may expand to, once it has passed 256 MiB."""
