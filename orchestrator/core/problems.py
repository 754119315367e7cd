"""What can go wrong with one call to the provider, as values to be judged.

The three kinds answer the one question that decides about money: was it sent?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.model import RateLimits

__all__ = ["NeverSent", "Problem", "Refused", "ReplyLost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverSent:
    """No byte of the request reached the provider: refused, DNS, TLS, or no free connection."""

    reason: str
    # True where our own pool was full, which says nothing about the provider.
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLost:
    """The request may have been received, and no readable reply came back.

    ``status`` is the HTTP status where one was seen (a 2xx whose body cannot be read). ``response_id`` is an
    id salvaged from what did arrive.
    """

    reason: str
    status: int | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider, or something on the way to it, answered with an error.

    ``message`` is for people and is cut to 2,000 characters; it never holds the request's own text by our
    doing, though a provider may quote it. ``retry_after_s`` is already parsed and never negative.
    """

    status: int
    code: str | None = None
    type: str | None = None
    param: str | None = None
    message: str = ""
    retry_after_s: float | None = None
    should_retry: bool | None = None
    rate_limits: RateLimits | None = None
    request_id: str | None = None


Problem: TypeAlias = NeverSent | ReplyLost | Refused
