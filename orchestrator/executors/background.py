"""Background responses: the create call returns at once with an id, and polls fetch the answer."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.model import MAIN_STAGE, Seen
from orchestrator.core.problems import Problem
from orchestrator.executors.base import Capabilities, ResponseStreams
from orchestrator.provider.client import ResponsesClient

__all__ = ["ATTEMPT", "KEY", "METADATA_VALUE_LIMIT", "RUN", "BackgroundExecutor", "attempt_of", "create_body"]

# The names of our own metadata pairs: they match a response whose id was lost to its row.
RUN = "orchestrator_run"
KEY = "orchestrator_key"
ATTEMPT = "orchestrator_attempt"

METADATA_VALUE_LIMIT = 512


class BackgroundExecutor:
    """Sends ``background: true`` with an explicit ``store``: true, unless the request says false.

    Without an explicit ``store`` some projects delete a finished background response after about ten
    minutes (responses API, background mode).
    """

    capabilities = Capabilities(poll=True, cancel=True)
    streams: ResponseStreams | None = None

    def __init__(self, client: ResponsesClient) -> None:
        self._client = client

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, stage: str, number: int) -> bytes:
        """The body of the create call; see ``create_body``."""
        return create_body(fields, run_uid=run_uid, key=key, stage=stage, number=number)

    # Submit and poll run for every row: they return the client's own coroutine, because one more would cost.

    def submit(
        self, body: bytes, *, idempotency_key: str, client_request_id: str
    ) -> Coroutine[Any, Any, Seen | Problem]:
        """Create the response, in the background."""
        return self._client.create(body, idempotency_key=idempotency_key, client_request_id=client_request_id)

    def poll(self, response_id: str) -> Coroutine[Any, Any, Seen | Problem]:
        """Fetch the response."""
        return self._client.retrieve(response_id)

    async def cancel(self, response_id: str) -> Seen | Problem:
        """Ask the provider to stop working on a response."""
        return await self._client.cancel(response_id)

    async def new_conversation(self, run_uid: str, chain: str) -> str | Problem:
        """Create a conversation object; its id."""
        return await self._client.create_conversation({RUN: run_uid, KEY: chain[:METADATA_VALUE_LIMIT]})


def create_body(
    fields: Mapping[str, Any],
    *,
    run_uid: str,
    key: str,
    number: int,
    stage: str = MAIN_STAGE,
    background: bool = True,
) -> bytes:
    """The JSON of a create call: the job's fields, marked with run, row and attempt.

    Rows of different stages can share a key, so the mark of an attempt names its stage; in the main stage it is the
    number alone.
    """
    metadata = {
        **(fields.get("metadata") or {}),
        RUN: run_uid,
        KEY: key[:METADATA_VALUE_LIMIT],
        ATTEMPT: str(number) if stage == MAIN_STAGE else f"{stage}/{number}",
    }
    stored = fields.get("store") is not False
    if background:
        return exact_json.dumps({**fields, "background": True, "store": stored, "metadata": metadata})
    return exact_json.dumps({**fields, "store": stored, "metadata": metadata})


def attempt_of(mark: object) -> tuple[str, int | None] | None:
    """The stage and the number in the mark of an attempt, as ``create_body`` writes it.

    None if there is no mark; the number is None if it is none of ours.
    """
    if not isinstance(mark, str):
        return None
    stage, _, number = mark.rpartition("/")
    is_number = number.isascii() and number.isdecimal() and len(number) < 10
    return stage or MAIN_STAGE, int(number) if is_number else None
