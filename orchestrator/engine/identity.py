"""Whose reply it is: an answer is taken only if it is that of the request that waits for it.

Gateways and caches mix replies up. The id of a response and the metadata that every create call sends and most
servers repeat show whose it is. A gateway that renames ids stays usable: a different id alone proves nothing until
the server has shown that its replies carry the id asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.model import Response
from orchestrator.engine.items import OpenResponse
from orchestrator.engine.run_context import RunContext
from orchestrator.executors.background import ATTEMPT, KEY, METADATA_VALUE_LIMIT, RUN, attempt_of

__all__ = ["ReplyIdentity"]


class ReplyIdentity:
    """Checks the replies of one run."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._uid = run.record.uid
        # The endpoints of which a poll of this run has ever brought the id that was asked for.
        self._repeat_ids: set[int] = set()

    def flaw_of_create(self, open_: OpenResponse, response: Response) -> str | None:
        """Returns why the reply to a create call is not that of the request, or None."""
        marks = response.metadata
        if marks and (marks.get(RUN, self._uid) != self._uid or _is_of_another_row(open_, marks)):
            return "the reply to the create call repeats the metadata of another request"
        return None

    async def flaw_of_poll(self, open_: OpenResponse, response: Response) -> str | None:
        """Returns why the reply to a poll is not that of the response asked for, or None."""
        marks = response.metadata or {}
        marked = marks.get(RUN)
        if response.id == open_.response_id:
            self._repeat_ids.add(open_.endpoint)
            # A response of another run may have been adopted; its id shows that it is the right one.
            mixed_up = marked == self._uid and _is_of_another_row(open_, marks)
        else:
            if open_.endpoint in self._repeat_ids or await self._is_of_another_attempt(open_, response.id):
                return "the reply is that of another response"
            # What was adopted is marked by the run that asked for it.
            mixed_up = (
                marked is not None and not open_.adopted and (marked != self._uid or _is_of_another_row(open_, marks))
            )
        return "the reply repeats the metadata of another request" if mixed_up else None

    async def _is_of_another_attempt(self, open_: OpenResponse, response_id: str) -> bool:
        holder = await self._run.reader.holder(response_id)
        return holder is not None and holder != open_.attempt_id


def _is_of_another_row(open_: OpenResponse, marks: Mapping[str, Any]) -> bool:
    key, attempt = marks.get(KEY), attempt_of(marks.get(ATTEMPT))
    if isinstance(key, str) and key != open_.key[:METADATA_VALUE_LIMIT]:
        return True
    if attempt is None:
        return False
    stage, number = attempt
    # A server that honors idempotency keys repeats the response of an earlier attempt, never of a later one.
    return stage != open_.stage.name or (number is not None and number > open_.number)
