"""What the stored run and the provider can still tell of one row: the request as it was sent, and its input items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from orchestrator.app.wiring import open_client
from orchestrator.config import Config
from orchestrator.core.errors import BadRow, OrchestratorError, ProviderUnreachable, UsageError
from orchestrator.core.problems import Problem, Refused
from orchestrator.executors.background import create_body
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.requests.turns import cache_key, going_on, in_conversation
from orchestrator.job.spec import Job
from orchestrator.provider.client import CallFailed
from orchestrator.stores.reads import Run
from orchestrator.stores.request_history import RequestHistory

__all__ = ["input_items", "request_sent", "to_user_error"]


def request_sent(run: Run, story: RequestHistory) -> dict[str, Any] | None:
    """The body of the latest create call, made anew from the row and the job as they were stored.

    Before the first attempt it is the body that will be sent; None where the row makes no request, or was dropped.
    The turns that a stateless chain carried along are not in it.
    """
    request = story.request
    if not request.row:
        return None
    number = story.attempts[-1].number if story.attempts else 1
    job = Job.model_validate_json(run.spec_json)
    try:
        fields = Renderer(job, may_be_unstored=True, read_files=False).render(request.row, where=request.where)
    except BadRow:
        return None
    if request.conversation_id is not None:
        fields = in_conversation(fields, request.conversation_id)
    elif job.chain is not None and job.chain.mode == "previous_response" and request.earlier_response_id is not None:
        fields["previous_response_id"] = request.earlier_response_id
    if job.prompt_cache is not None and job.prompt_cache.key:
        fields.setdefault("prompt_cache_key", cache_key(fields))
    if request.max_output_tokens is not None:
        fields["max_output_tokens"] = request.max_output_tokens
    if request.turn and request.continuation is not None:
        fields = going_on(fields, request.continuation)
    body: dict[str, Any] = orjson.loads(create_body(fields, run_uid=run.uid, key=request.key, number=number))
    return body


async def input_items(config: Config, database: Path | None, story: RequestHistory) -> AsyncIterator[bytes]:
    """The input items of the row's latest response, each as JSON, in their order, as the provider keeps them."""
    response_id = next((each.response_id for each in reversed(story.responses) if each.response_id), None)
    if response_id is None:
        raise UsageError(
            f"no response was created for {story.request.key!r} yet, so the provider has no input items of it"
        )
    async with open_client(config, database, beside_a_run=True) as client:
        try:
            async for item in client.input_items(response_id):
                yield item
        except CallFailed as failed:
            raise to_user_error(failed.problem, f"the input items of {response_id}") from None


def to_user_error(problem: Problem, what: str) -> OrchestratorError:
    """The error for a user whose question the provider did not answer; ``what`` was asked for."""
    if not isinstance(problem, Refused):
        return ProviderUnreachable(
            f"{what} could not be fetched: {problem.reason}",
            hint="check provider.base_url and the network, then ask again",
        )
    reason = problem.message or problem.code or f"HTTP {problem.status}"
    if problem.status == 404:
        return UsageError(
            f"the provider no longer knows {what}: {reason}",
            hint="responses are deleted by a purge, and by the provider after some time",
        )
    if problem.status in (401, 403):
        return ProviderUnreachable(
            f"the provider refuses the key, so {what} could not be fetched", hint="give the --config of the run"
        )
    return ProviderUnreachable(
        f"{what} could not be fetched: {reason} (HTTP {problem.status})", hint="try again later"
    )
