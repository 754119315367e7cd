"""A job whose model calls functions, and the functions, which note each call in a file before they do anything."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["REQUEST", "calls_noted", "tool_job", "write_handlers"]

_HANDLERS = """\
import asyncio
import json
import os
import time
from pathlib import Path

NOTES = Path(__file__).with_name("calls.log")


def note(name, **given):
    line = json.dumps([name, given]) + "\\n"
    notes = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(notes, line.encode())
    os.close(notes)


def harvest(year, crop):
    note("harvest", year=year, crop=crop)
    time.sleep({seconds})
    return {{"year": year, "crop": crop, "bushels": year * len(crop)}}


async def price(year, crop):
    note("price", year=year, crop=crop)
    await asyncio.sleep({seconds})
    return f"In {{year}} a bushel of {{crop}} cost {{year - 1700}} cents."


def raises(year, crop):
    raise LookupError(f"nothing is known of {{crop}}")


def hangs(year, crop):
    time.sleep(600)


async def hangs_too(year, crop):
    await asyncio.sleep(600)


def boasts(year, crop):
    return "x" * 5_000_000
"""

_PARAMETERS = {
    "type": "object",
    "properties": {"year": {"type": "integer"}, "crop": {"enum": ["wheat", "corn", "rye"]}},
    "required": ["year", "crop"],
    "additionalProperties": False,
}

REQUEST: dict[str, Any] = {
    "model": "gpt-5-mini",
    "input": "How was the harvest? {{ text }}",
    "max_output_tokens": 300,
    "tools": [
        {"type": "function", "name": name, "description": f"The {name}.", "parameters": _PARAMETERS, "strict": True}
        for name in ("harvest", "price")
    ],
}


def tool_job(handlers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """The fields of a job with these tools; ``handlers`` names other functions for them."""
    functions = {"harvest": "harvest", "price": "price"} | (handlers or {})
    return {"request": REQUEST, "handlers": {name: f"farm:{each}" for name, each in functions.items()}} | fields


def write_handlers(folder: Path, *, seconds: float = 0.0) -> None:
    """The module beside the job file; ``seconds`` is how long a call takes."""
    (folder / "farm.py").write_text(_HANDLERS.format(seconds=seconds))


def calls_noted(folder: Path) -> Counter[tuple[str, str]]:
    """How often each function was called with each arguments, by what they noted themselves."""
    notes = folder / "calls.log"
    lines = notes.read_text().splitlines() if notes.exists() else []
    return Counter((name, json.dumps(given, sort_keys=True)) for name, given in map(json.loads, lines))
