"""Reads the headers of a reply: limits, when to retry or poll, and whether to retry.

Every function takes headers with lower-case names and treats a value that it does not understand as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from orchestrator.core.model import RateLimits

__all__ = ["parse_rate_limits", "poll_after", "request_id", "retry_after", "should_retry"]

_REQUESTS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
# Seen instead of the plain names on some accounts (responses API, rate limits).
_TOKENS_VARIANT = tuple(f"{name}_usage_based" for name in _TOKENS)

# No value that means something is longer.
_LONGEST = 100

_ABSENT: list[str | None] = [None, None, None]
_NOTHING = RateLimits()

# A unit comes before its prefixes: "ms" before "m", or "12ms" would be twelve minutes.
_GO_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|μs|ns|h|m|s)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def parse_rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Returns the ``x-ratelimit-*`` headers, or None if none of them is readable."""
    requests = [headers.get(name) for name in _REQUESTS]
    tokens = [headers.get(name) for name in _TOKENS]
    if tokens == _ABSENT:
        tokens = [headers.get(name) for name in _TOKENS_VARIANT]
        if requests == tokens == _ABSENT:
            return None
    limits = RateLimits(
        limit_requests=_count(requests[0]),
        limit_tokens=_count(tokens[0]),
        remaining_requests=_count(requests[1]),
        remaining_tokens=_count(tokens[1]),
        reset_requests_s=_go_duration(requests[2]),
        reset_tokens_s=_go_duration(tokens[2]),
    )
    return None if limits == _NOTHING else limits


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds that the provider asks to wait, never negative; None if no header is readable.

    ``retry-after-ms`` takes precedence over ``retry-after``, which may be seconds (fractions too) or an HTTP date. A
    date is relative to the reply's own ``date`` header if it has one, so that a wrong local clock does not matter.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    moment = _http_date(text)
    if moment is None:
        return None
    sent_at = _http_date(headers.get("date"))
    return max(0.0, moment - (now if sent_at is None else sent_at))


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Returns whether the provider says that a retry makes sense (``x-should-retry``)."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def poll_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds after which the provider asks for the next poll (``openai-poll-after-ms``)."""
    milliseconds = _number(headers.get("openai-poll-after-ms"))
    return None if milliseconds is None else milliseconds / 1000


def request_id(headers: Mapping[str, str]) -> str | None:
    """Returns the id by which the provider's support finds this exchange."""
    return headers.get("x-request-id") or None


def _number(text: str | None) -> float | None:
    """Returns a finite number that is not negative, else None."""
    if text is None or len(text) > _LONGEST:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(text: str | None) -> int | None:
    if text is not None and len(text) < 16 and text.isascii() and text.isdecimal():
        return int(text)
    number = _number(text)
    return None if number is None else int(number)


# Nearly every reply has two, mostly with the same few values.
@lru_cache(maxsize=1024)
def _go_duration(text: str | None) -> float | None:
    """Returns the seconds of ``1s``, ``6m0s``, ``12ms``, ``1m30.5s``, ``1h2m3s``; a bare number is seconds."""
    if text is None:
        return None
    text = text.strip()
    if len(text) <= _LONGEST and _GO_DURATION.fullmatch(text):
        return sum(float(amount) * _UNIT_S[unit] for amount, unit in _GO_PART.findall(text))
    return _number(text)


def _http_date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        moment: datetime = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date in "-0000" is parsed without a zone; HTTP dates are always in UTC.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
