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

from orchestrator.core.clock import Clock
from orchestrator.sandbox.endpoints.files import content_of
from orchestrator.sandbox.endpoints.replies import json_reply, page_of, parse_object
from orchestrator.sandbox.faults.api_errors import Denied, bad_request
from orchestrator.sandbox.faults.fault_plan import FaultPlan
from orchestrator.sandbox.server.sandbox_settings import CancelEnded, SandboxSettings
from orchestrator.sandbox.simulation.creation import CreateCall, SimulatedCache, create_record
from orchestrator.sandbox.simulation.models import Catalogue
from orchestrator.sandbox.storage.batch_store import Batches, Line, read_lines
from orchestrator.sandbox.storage.response_json import response_body
from orchestrator.sandbox.storage.response_store import Archive
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.checks import check_batch, check_create
from orchestrator.sandbox.validation.conversation_state import Turns

__all__ = ["BatchCalls"]

Json: TypeAlias = Any

# After so many lines other calls have their turn.
_AT_A_STRETCH = 20


class BatchCalls:
    """Each call is given the request, and its ordinal among the calls of its kind, which decides nothing here."""

    def __init__(
        self, settings: SandboxSettings, *, state: SandboxDatabase, archive: Archive, turns: Turns, clock: Clock
    ) -> None:
        self._settings = settings
        self._state = state
        self._archive = archive
        self._turns = turns
        self._clock = clock
        self._batches = Batches(state)
        self._catalogue = Catalogue(settings.models)
        self._fates = FaultPlan(settings)
        # Another pool than that of single requests, as with the rate limits.
        self._prompt_cache = SimulatedCache()

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/batches: answer the requests of an uploaded file within a day."""
        fields = parse_object(await request.body())
        check_batch(fields)
        file_id, now = fields["input_file_id"], self._clock.now()
        purpose, content = content_of(self._state, file_id, now)
        if purpose != "batch":
            message = f"The file '{file_id}' was uploaded for the purpose '{purpose}', not 'batch'."
            raise bad_request(message, code=None, param="input_file_id")
        requests, errors = read_lines(content)
        starts_at = now + self._fates.of_batch(self._state.count("batches"))
        lines = []
        for number, each in enumerate(() if errors else requests, start=1):
            lines.append(self._line(each, starts_at))
            if number % _AT_A_STRETCH == 0:
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
        """GET /v1/batches/{batch_id}: how far a batch is, and its files of answers and errors."""
        return await self._committed(self._batches.show(_id(request), self._clock.now()))

    async def list_batches(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/batches: all batches in pages, newest first."""
        return await self._committed(page_of(self._batches.list_all(self._clock.now()), request.query_params))

    async def cancel(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/batches/{batch_id}/cancel: stop it; what is answered by now stays, and is charged."""
        now = self._clock.now()
        stopped = self._batches.cancel(_id(request), now)
        shown = self._batches.show(_id(request), now)
        if not stopped and self._settings.cancel_ended is CancelEnded.REFUSE:
            raise bad_request(f"Cannot cancel a {shown['status']} batch.", code=None, param=None)
        return await self._committed(shown)

    def _line(self, request: Mapping[str, Json], starts_at: float) -> Line:
        """What comes of one line: a response that will end, or an error that is there at once."""
        # A batch is a background of its own.
        fields = {name: value for name, value in request["body"].items() if name != "background"}
        ordinal = self._state.count("batch_lines")
        try:
            model = check_create(fields, self._catalogue)
            if fields.get("stream"):
                raise bad_request("Streaming is not supported in a batch.", code=None, param="stream")
            fields = self._turns.resolved(fields, starts_at)
            call = CreateCall(
                fields=fields,
                model=model,
                prompt=self._turns.prompt(fields, model, starts_at),
                fate=replace(self._fates.of_line(ordinal), queue_s=0),
                ordinal=self._state.count("responses"),
                now=starts_at,
                idempotency_key=None,
            )
            record = create_record(call, settings=self._settings, cache=self._prompt_cache)
        except Denied as denied:
            reply = denied.response
            return Line(
                custom_id=request["custom_id"],
                ends_at=starts_at,
                status_code=reply.status_code,
                body=bytes(reply.body),
            )
        body = b"{}" if math.isinf(record.ends_at) else response_body(record, record.ends_at)
        # The answer is kept with the line, and can be had by the batch's file only.
        kept = replace(record, tier="batch", stored=False, background=True, echo=b"{}", output=b"[]")
        self._archive.add_to_batch(kept, orjson.dumps(fields.get("input")))
        return Line(
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
