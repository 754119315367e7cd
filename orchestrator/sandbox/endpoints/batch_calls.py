"""The calls under ``/v1/batches``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import anyio.lowlevel
import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.sandbox.endpoints.call_context import CallContext
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of, parse_object
from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request
from orchestrator.sandbox.sandbox_settings import CancelEnded
from orchestrator.sandbox.simulation.creation import CreateCall, SimulatedCache, create_record
from orchestrator.sandbox.simulation.response_json import response_body
from orchestrator.sandbox.storage.batch_store import BatchLine, BatchStore, read_lines
from orchestrator.sandbox.storage.file_store import read_file
from orchestrator.sandbox.validation.checks import check_batch, check_create
from orchestrator.sandbox.validation.prompt_checks import read_checked_prompt

__all__ = ["BatchCalls"]

Json: TypeAlias = Any

# Other calls run after this many lines.
_LINES_PER_TURN = 20


class BatchCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which is not used here."""

    def __init__(self, context: CallContext) -> None:
        self._settings = context.settings
        self._state = context.state
        self._responses = context.responses
        self._history = context.history
        self._clock = context.clock
        self._batches = BatchStore(context.state)
        self._catalogue = context.catalogue
        self._fault_plan = context.fault_plan
        # Batches have their own prompt cache, as they have their own rate limits.
        self._prompt_cache = SimulatedCache()

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/batches: answer the requests of an uploaded file within a day."""
        fields = parse_object(await request.body())
        check_batch(fields)
        file_id, now = fields["input_file_id"], self._clock.now()
        purpose, content = read_file(self._state, file_id, now)
        if purpose != "batch":
            message = f"The file '{file_id}' was uploaded for the purpose '{purpose}', not 'batch'."
            raise bad_request(message, code=None, param="input_file_id")
        requests, errors = read_lines(content)
        starts_at = now + self._fault_plan.of_batch(self._state.count("batches"))
        lines = []
        for number, each in enumerate(() if errors else requests, start=1):
            lines.append(self._line(each, starts_at))
            if number % _LINES_PER_TURN == 0:
                await anyio.lowlevel.checkpoint()
        lifetime = fields.get("output_expires_after") or {}
        batch_id = self._batches.create(
            lines,
            errors,
            input_file_id=file_id,
            metadata=fields.get("metadata") or {},
            file_lifetime_s=lifetime.get("seconds"),
            starts_at=starts_at,
            now=now,
        )
        return await self._committed(self._batches.show(batch_id, now))

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/batches/{batch_id}: its progress, and its files of answers and errors."""
        return await self._committed(self._batches.show(_id(request), self._clock.now()))

    async def list_batches(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/batches: all batches in pages, newest first."""
        return await self._committed(page_of(self._batches.list_all(self._clock.now()), request.query_params))

    async def cancel(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/batches/{batch_id}/cancel: stop it; answers that exist by now stay, and are charged."""
        now = self._clock.now()
        stopped = self._batches.cancel(_id(request), now)
        shown = self._batches.show(_id(request), now)
        if not stopped and self._settings.cancel_ended is CancelEnded.REFUSE:
            raise bad_request(f"Cannot cancel a {shown['status']} batch.", code=None, param=None)
        return await self._committed(shown)

    def _line(self, request: Mapping[str, Json], starts_at: float) -> BatchLine:
        """One line with its reply: a response that will end, or an immediate error."""
        # A batch always runs in the background.
        fields = {name: value for name, value in request["body"].items() if name != "background"}
        ordinal = self._state.count("batch_lines")
        try:
            model = check_create(fields, self._catalogue)
            if fields.get("stream"):
                raise bad_request("Streaming is not supported in a batch.", code=None, param="stream")
            fields = self._history.resolved(fields, starts_at)
            call = CreateCall(
                fields=fields,
                model=model,
                prompt=read_checked_prompt(fields, model, self._history, self._state, starts_at),
                drawn=replace(self._fault_plan.of_line(ordinal), queue_s=0),
                ordinal=self._state.count("responses"),
                now=starts_at,
                idempotency_key=None,
            )
            record = create_record(call, settings=self._settings, cache=self._prompt_cache)
        except ErrorReply as error:
            reply = error.response
            return BatchLine(
                custom_id=request["custom_id"],
                ends_at=starts_at,
                status_code=reply.status_code,
                body=bytes(reply.body),
            )
        body = b"{}" if math.isinf(record.ends_at) else response_body(record, record.ends_at)
        # The answer is stored with the line, and only the batch's file shows it.
        stored = replace(record, tier="batch", stored=False, background=True, echo=b"{}", output=b"[]")
        self._responses.add_batch_response(stored, orjson.dumps(fields.get("input")))
        return BatchLine(
            custom_id=request["custom_id"],
            ends_at=record.ends_at,
            status_code=200,
            body=body,
            response_id=record.id,
        )

    async def _committed(self, value: Json) -> Response:
        await self._state.committed()
        return json_reply(value)


def _id(request: Request) -> str:
    return str(request.path_params["batch_id"])
