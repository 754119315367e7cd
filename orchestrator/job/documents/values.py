"""Values that people write in files: durations such as ``15m``, and amounts of dollars, exactly."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from orchestrator.core.money import parse_usd

__all__ = ["DURATION_PATTERN", "Duration", "FileSize", "Usd", "parse_duration"]

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)"
# For the JSON Schema, whose readers do not know groups without a number.
DURATION_PATTERN = rf"^({_PART}\s*)+$".replace("(?:", "(")
_DURATION = re.compile(rf"{_PART}(?:\s*{_PART})*", re.ASCII)
_DURATION_RULE = "must be a duration such as 90s, 15m, 1h30m, 2h or 7d (a bare number is seconds)"

# No duration is longer: a date so far in the future is none that a clock can show.
_MOST_S = 100 * 365 * 86400

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(B|kB|MB|GB)", re.ASCII | re.IGNORECASE)
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

# A picodollar sum must fit a 64-bit integer (9.2 million dollars); no single amount comes near that.
_MOST_USD = 1_000_000


def parse_duration(value: object) -> float:
    """Seconds of ``"90s"``, ``"15m"``, ``"1.5h"``, ``"1h30m"``, ``"7d"``, or of a bare number of seconds.

    Raises ``ValueError`` for anything else, for negative and for endless durations.
    """
    if isinstance(value, str):
        text = value.strip()
        if not _DURATION.fullmatch(text):
            raise ValueError(_DURATION_RULE)
        seconds: float = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(_DURATION_RULE)
        # A number of 400 digits has no float.
        seconds = float(min(value, _MOST_S + 1))
    else:
        raise ValueError(_DURATION_RULE)
    if not seconds >= 0:
        raise ValueError(_DURATION_RULE)
    if seconds > _MOST_S:
        raise ValueError("must be at most 100 years")
    return seconds


def _bytes(value: object) -> int:
    """Bytes of ``"190MB"``, ``"1.5 GB"``, or of a whole number of bytes."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return int(Decimal(found[1]) * _UNITS[found[2].upper()])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("must be a size such as 190MB or 500kB (a bare number is bytes)")


def _exact_usd(value: object) -> Decimal:
    # A float from Python code means the digits it prints as, not the binary fraction behind them.
    amount = repr(value) if isinstance(value, float) else value
    if isinstance(amount, bool) or not isinstance(amount, (str, int, Decimal)):
        raise ValueError("must be an amount of dollars such as 5 or 0.05")
    try:
        parse_usd(amount)
    except ValueError:
        raise ValueError("must be an amount of dollars such as 5 or 0.05, exact to 1e-12") from None
    return Decimal(amount)


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": DURATION_PATTERN,
                    "examples": ["90s", "15m", "2h"],
                },
                {"type": "number", "minimum": 0},
            ]
        }
    ),
]

FileSize: TypeAlias = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["190MB"]}, {"type": "integer", "minimum": 0}]}),
]

Usd: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_exact_usd),
    Field(ge=0, le=_MOST_USD),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": [5, "0.05"]}),
]
