"""Reads all that the database has of one row."""

from __future__ import annotations

from orchestrator.stores.base import Reader
from orchestrator.stores.reads import RequestRecord
from orchestrator.stores.request_history import RequestHistory

__all__ = ["history_of"]


async def history_of(reader: Reader, request: RequestRecord) -> RequestHistory:
    """The request with each attempt at it, and what belongs to these."""
    attempts = await reader.attempts(request.id)
    return RequestHistory(
        request,
        attempts,
        tool_calls={each.id: await reader.tool_calls(each.id) for each in attempts},
        progress={each.id: await reader.progress(each.id) for each in attempts},
        answered_by=await reader.attempt(request.answered_by) if request.answered_by is not None else None,
    )
