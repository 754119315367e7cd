"""The calls under ``/v1/batches``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import anyio.lowlevel
import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.endpoints.call_context import CallContext
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of, parse_object
from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request
from orchestrator.sandbox.faults.broken_replies import cannot_hang_up, gateway_error
from orchestrator.sandbox.faults.refused_calls import refusal_of_create
from orchestrator.sandbox.sandbox_settings import CancelEnded
from orchestrator.sandbox.simulation.creation import CreateCall, SimulatedCache, create_record
from orchestrator.sandbox.simulation.response_json import response_body
from orchestrator.sandbox.storage.batch_files import BatchLineError, read_lines
from orchestrator.sandbox.storage.batch_store import BatchLine, BatchStore, NewBatch
from orchestrator.sandbox.storage.file_store import read_batch_input
from orchestrator.sandbox.storage.response_record import ResponseRecord
from orchestrator.sandbox.validation.checks import check_batch, check_create
from orchestrator.sandbox.validation.prompt_checks import read_checked_prompt

__all__ = ["BatchCalls"]

Json: TypeAlias = Any

# Other calls run after this many lines.
_LINES_PER_TURN = 20


_ENQUEUED = (
    "Enqueued token limit reached for {} in organization org-sandbox. Limit: {:,} enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)


@fast_dataclass
class LineReply:
    """The reply to a line of a batch, with the response to store and its model and input tokens, if it has one."""

    line: BatchLine
    record: ResponseRecord | None = None
    input_json: bytes = b"null"
    model: str | None = None
    tokens: int = 0


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
        now, ordinal = self._clock.now(), self._state.count("batches")
        requests, errors = read_lines(read_batch_input(self._state, fields["input_file_id"], now))
        fault = self._fault_plan.fault_of_batch(ordinal)
        starts_at = now + self._fault_plan.of_batch(ordinal)
        replies = []
        for number, each in enumerate(() if errors else requests, start=1):
            replies.append(self._reply(each, starts_at, fault))
            if number % _LINES_PER_TURN == 0:
                await anyio.lowlevel.checkpoint()
        errors = errors or self._errors(replies, fault, now)
        if not errors:
            self._store(replies)
        lifetime = fields.get("output_expires_after") or {}
        batch = NewBatch(
            lines=() if errors else [reply.line for reply in replies],
            errors=errors,
            input_file_id=fields["input_file_id"],
            metadata=fields.get("metadata") or {},
            file_lifetime_s=lifetime.get("seconds"),
            starts_at=starts_at,
            model=_models(replies)[0],
            enqueued_tokens=0 if errors else sum(reply.tokens for reply in replies),
            fault=fault,
            late_s=self._settings.faults.batch_late_s,
            cancelling_s=self._settings.faults.batch_cancel_s,
        )
        shown = self._batches.show(self._batches.create(batch, now), now)
        reply = await self._committed(shown)
        return gateway_error(502) if fault == "batch_reply_lost" else reply

    def _errors(self, replies: Sequence[LineReply], fault: str | None, now: float) -> list[BatchLineError]:
        """Why a batch of readable lines fails when it is validated."""
        models = _models(replies)
        limit = self._settings.limits.batch_enqueued_tokens
        enqueued = self._batches.enqueued_tokens(models[0], now) + sum(reply.tokens for reply in replies)
        if fault == "batch_token_limit" or (limit is not None and enqueued > limit):
            self._state.count("batch.token_limited")
            return [BatchLineError(_ENQUEUED.format(models[0], limit or 0), code="token_limit_exceeded")]
        if fault == "batch_line_error":
            struck = len(replies) // 2 + 1
            return [
                BatchLineError("This line is wrong, says a fault of the sandbox.", struck, code="invalid_request")
            ]
        if len(set(models)) > 1:
            return [BatchLineError("All lines of a batch must have the same model.", param="model")]
        self._state.raise_count("batch.most_enqueued_tokens", enqueued)
        return []

    def _store(self, replies: Sequence[LineReply]) -> None:
        for reply in replies:
            if reply.record is not None:
                self._responses.add_batch_response(reply.record, reply.input_json)

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

    def _reply(self, request: Mapping[str, Json], starts_at: float, fault: str | None) -> LineReply:
        """The reply to one line: a response that will end, or an immediate error."""
        # A batch always runs in the background.
        fields = {name: value for name, value in request["body"].items() if name != "background"}
        ordinal = self._state.count("batch_lines")
        try:
            model = check_create(fields, self._catalogue)
            if fields.get("stream"):
                raise bad_request("Streaming is not supported in a batch.", code=None, param="stream")
            fields = self._history.resolved(fields, starts_at)
            prompt = read_checked_prompt(fields, model, self._history, self._state, starts_at)
            if fault == "batch_no_output":
                raise refusal_of_create("server_error", retry_after=None, hang_up=cannot_hang_up)
            call = CreateCall(
                fields=fields,
                model=model,
                prompt=prompt,
                drawn=replace(self._fault_plan.of_line(ordinal), queue_s=0),
                ordinal=self._state.count("responses"),
                now=starts_at,
                idempotency_key=None,
            )
            record = create_record(call, settings=self._settings, cache=self._prompt_cache)
        except ErrorReply as error:
            refused = error.response
            line = BatchLine(
                custom_id=request["custom_id"],
                ends_at=starts_at,
                status_code=refused.status_code,
                body=bytes(refused.body),
            )
            return LineReply(line=line)
        body = b"{}" if math.isinf(record.ends_at) else response_body(record, record.ends_at)
        line = BatchLine(
            custom_id=request["custom_id"],
            ends_at=record.ends_at,
            status_code=200,
            body=body,
            response_id=record.id,
        )
        return LineReply(
            line=line,
            # A request may continue from it, as from any other response that is stored.
            record=replace(record, tier="batch", background=True),
            input_json=orjson.dumps(fields.get("input")),
            model=model.name,
            tokens=prompt.tokens,
        )

    async def _committed(self, value: Json) -> Response:
        await self._state.committed()
        return json_reply(value)


def _models(replies: Sequence[LineReply]) -> list[str | None]:
    """The models of the lines that are answered; one None if there are none."""
    return [reply.model for reply in replies if reply.model is not None] or [None]


def _id(request: Request) -> str:
    return str(request.path_params["batch_id"])
