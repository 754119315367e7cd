"""How one call to the provider can fail, as values to be judged.

The three kinds answer the question that decides about money: was the request sent?
"""

from __future__ import annotations

from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import RateLimits

__all__ = ["BatchError", "NeverSent", "Problem", "Refused", "ReplyLost"]


@fast_dataclass
class NeverSent:
    """No byte of the request reached the provider: refused, DNS, TLS, or no free connection."""

    reason: str
    # True if our own pool was full, which says nothing about the provider.
    local: bool = False


@fast_dataclass
class ReplyLost:
    """The request may have been received, and no readable reply came back.

    ``status`` is the HTTP status if one arrived (a 2xx whose body is unreadable). ``response_id`` is an id salvaged
    from the part that arrived. ``unreadable`` says that the reply itself arrived, from the API and not from a gateway
    in front of it, so that the request was certainly received and asking again may bring the same reply.
    ``too_large`` says that it would, because the reply exceeds the limit.
    """

    reason: str
    status: int | None = None
    response_id: str | None = None
    unreadable: bool = False
    too_large: bool = False


@fast_dataclass
class Refused:
    """The provider, a gateway or a proxy answered with an error.

    ``message`` is for people and is cut to 2,000 characters; it never holds the request's text by
    our doing, but a provider may quote it. ``retry_after_s`` is parsed and never negative.
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


@fast_dataclass
class BatchError:
    """Why the provider refused a whole batch; ``line`` counts from 1, and is None if no line is at fault."""

    code: str | None = None
    message: str = ""
    line: int | None = None
