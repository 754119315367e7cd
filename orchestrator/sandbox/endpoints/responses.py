"""What each call of the Responses API does, on the stored responses and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.sandbox.endpoints.replies import json_reply, page_of, parse_object
from orchestrator.sandbox.endpoints.streams import Streams, stream_position
from orchestrator.sandbox.faults.api_errors import bad_request, not_found
from orchestrator.sandbox.faults.broken_replies import CutOff, Dropped, HangUp, Silence
from orchestrator.sandbox.faults.fault_plan import DrawnFaults, FaultPlan
from orchestrator.sandbox.faults.refused_calls import (
    gateway_error,
    html_page,
    refusal_of_create,
    refusal_of_poll,
    wrong_key,
)
from orchestrator.sandbox.server.sandbox_settings import AccountLimits, CancelEnded, Idempotency, SandboxSettings
from orchestrator.sandbox.simulation.compaction import compact, compaction_body
from orchestrator.sandbox.simulation.creation import CreateCall, SimulatedCache, create_record
from orchestrator.sandbox.simulation.models import Catalogue, Model
from orchestrator.sandbox.storage.account_limits import Allowance
from orchestrator.sandbox.storage.response_json import is_final, response_body
from orchestrator.sandbox.storage.response_record import Record, has_ended, shown_status, true_status
from orchestrator.sandbox.storage.response_store import Archive
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.checks import check_compaction, check_create, check_token_count
from orchestrator.sandbox.validation.conversation_state import Turns

__all__ = ["Operations"]

Json: TypeAlias = Any

_A_YEAR_S = 365 * 86_400


class Operations:
    """The calls, each given the request and its ordinal among the calls of its kind."""

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        state: SandboxDatabase,
        archive: Archive,
        turns: Turns,
        clock: Clock,
        hang_up: HangUp,
    ) -> None:
        self._settings = settings
        self._state = state
        self._archive = archive
        self._turns = turns
        self._clock = clock
        self._hang_up = hang_up
        self._fates = FaultPlan(settings)
        self._streams = Streams(state, archive, clock=clock, fates=self._fates, hang_up=hang_up)
        self._catalogue = Catalogue(settings.models)
        self._prompt_cache = SimulatedCache()
        self._allowances = defaultdict[str, Allowance](lambda: Allowance(settings.limits, now=clock.now()))
        polls = AccountLimits(requests_per_minute=settings.limits.polls_per_minute, headers=False)
        self._polls = Allowance(polls, now=clock.now())

    async def create(self, request: Request, ordinal: int) -> Response:
        """POST /v1/responses: create a response, in the background or not, as a stream or not."""
        fate = self._fates.of_create(ordinal)
        body = await request.body()
        if fate.refusal != "flex_unavailable":
            self._refuse(fate.refusal)
        self._refuse_by_schedule()
        fields = parse_object(body)
        model = check_create(fields, self._catalogue)
        _refuse_unsupported(fields)
        if model.name == "sandbox-rate-limited":
            self._refuse("rate_limited")
        if fields.get("service_tier") == "flex":
            self._refuse(fate.refusal)
        now = self._clock.now()
        key = request.headers.get("idempotency-key")
        if key and self._settings.idempotency is Idempotency.HONOUR:
            known = self._archive.find_by_idempotency_key(key)
            if known is not None:
                self._state.count("create.replayed")
                return await self._show(known, now)
        record, headers = await self._accept(fields, model, fate, now=now, key=key)
        if fate.delivery is not None:
            return self._lose(fate.delivery, record)
        if record.streamed:
            return self._streams.follow(request, record, after=-1, headers=headers)
        waits = not record.background or record.quirk == "background_ignored"
        if waits and not await self._wait_for_end(request, record):
            return Silence()
        reply = await self._show(record, self._clock.now())
        reply.headers.update(headers)
        return reply

    async def poll(self, request: Request, ordinal: int) -> Response:
        """GET /v1/responses/{response_id}: look at it, or follow it (``stream=true``, ``starting_after``)."""
        fault = self._fates.of_poll(ordinal)
        if fault is not None:
            denial = not_found(request.path_params["response_id"])
            retry_after = self._settings.faults.retry_after
            raise refusal_of_poll(fault, not_found=denial, retry_after=retry_after, hang_up=self._hang_up)
        self._take_poll()
        now = self._clock.now()
        record = self._find(request, now)
        after = stream_position(request.query_params)
        if after is None:
            return await self._show(record, now)
        if not record.streamed:
            raise bad_request("This response was not created with 'stream'.", code=None, param="stream")
        return self._streams.follow(request, record, after=after, headers={})

    async def cancel(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/responses/{response_id}/cancel: cancel one that runs in the background."""
        self._take_poll()
        now = self._clock.now()
        record = self._find(request, now)
        if not record.background:
            raise bad_request("Cannot cancel a synchronous response.", code=None, param=None)
        if record.cancel_asked_at is None:
            # A cancel also ends the quirk of the stale snapshot, so it is noted even when it comes too late.
            self._archive.ask_cancel(record, now)
        if has_ended(record, now) and self._settings.cancel_ended is CancelEnded.REFUSE:
            await self._state.committed()
            message = f"Cannot cancel a {true_status(record, now)} response."
            raise bad_request(message, code=None, param=None)
        return await self._show(self._find(request, now), now)

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/responses/{response_id}: delete it; one under way runs (and costs) on unseen."""
        self._take_poll()
        now = self._clock.now()
        record = self._find(request, now)
        self._archive.delete(record, now)
        await self._state.committed()
        return json_reply({"id": record.id, "object": "response", "deleted": True})

    async def input_items(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/responses/{response_id}/input_items: in pages, newest first unless ``order=asc``."""
        record = self._find(request, self._clock.now())
        return json_reply(page_of(self._turns.input_items(record), request.query_params))

    async def count_tokens(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/responses/input_tokens: count the tokens of a request."""
        fields = parse_object(await request.body())
        check_token_count(fields, self._catalogue)
        now = self._clock.now()
        prompt = self._turns.read(self._turns.resolved(fields, now), now)
        return json_reply({"object": "response.input_tokens", "input_tokens": prompt.tokens})

    async def compact(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/responses/compact: make a conversation short; it is charged."""
        fields = parse_object(await request.body())
        model = check_compaction(fields, self._catalogue)
        now = self._clock.now()
        fields = self._turns.resolved(fields, now)
        prompt = self._turns.prompt(fields, model, now)
        self._allowances[model.snapshot].take(now, tokens=prompt.tokens, model=model.name)
        record = compact(fields, prompt, model, ordinal=self._state.count("responses"), now=now)
        self._archive.add(record, orjson.dumps(fields.get("input")))
        await self._state.committed()
        return json_reply(compaction_body(record))

    async def models(self, _request: Request, _ordinal: int) -> Response:
        """GET /v1/models: the models that are known."""
        return json_reply({"object": "list", "data": [_model_card(name) for name in self._catalogue.names()]})

    async def model(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/models/{model}: one of them."""
        return json_reply(_model_card(self._catalogue.get(request.path_params["model"]).name))

    async def reply_delay(self, call: str, ordinal: int) -> None:
        """Wait as long as the settings want every reply to take."""
        seconds = self._fates.reply_s(call, ordinal)
        if seconds:
            await self._clock.sleep_until(self._clock.now() + seconds)

    def _refuse(self, fault: str | None) -> None:
        if fault is not None:
            retry_after = self._settings.faults.retry_after
            raise refusal_of_create(fault, retry_after=retry_after, hang_up=self._hang_up)

    def _refuse_by_schedule(self) -> None:
        faults, accepted = self._settings.faults, self._state.counts["create.accepted"]
        if faults.bad_key_after is not None and accepted >= faults.bad_key_after:
            raise wrong_key("Incorrect API key provided.")
        if faults.quota_exhausted_after is not None and accepted >= faults.quota_exhausted_after:
            self._refuse("insufficient_quota")

    async def _accept(
        self, fields: dict[str, Json], model: Model, fate: DrawnFaults, *, now: float, key: str | None
    ) -> tuple[Record, dict[str, str]]:
        """Check size and limits, and put the new response on record; with the headers that tell the limits."""
        fields = self._turns.resolved(fields, now)
        prompt = self._turns.prompt(fields, model, now)
        allowance = self._allowances[model.snapshot]
        allowance.take(now, tokens=prompt.tokens + (fields.get("max_output_tokens") or 0), model=model.name)
        call = CreateCall(
            fields=fields,
            model=model,
            prompt=prompt,
            fate=fate,
            ordinal=self._state.count("responses"),
            now=now,
            idempotency_key=key,
        )
        record = create_record(call, settings=self._settings, cache=self._prompt_cache)
        self._state.count("create.accepted")
        self._archive.add(record, orjson.dumps(fields.get("input")))
        await self._state.committed()
        return record, allowance.headers(now)

    def _lose(self, fault: str, record: Record) -> Response:
        """The reply to a create that was done, but whose reply does not arrive whole."""
        body = response_body(record, record.created_at)
        match fault:
            case "bad_gateway_after":
                return gateway_error(502)
            case "gateway_timeout":
                return gateway_error(504)
            case "gateway_reset":
                return gateway_error(503)
            case "drop_after":
                return Dropped(self._hang_up)
            case "drop_mid_body":
                return CutOff(body, self._hang_up, arrives=len(body) // 2)
            case "truncated_body":
                return Response(body[: len(body) // 2], media_type="application/json")
            case "html_200":
                return html_page(200)
            case "hang":
                return Silence()
            case _:
                raise ValueError(f"no fault of delivery is called {fault!r}")

    async def _wait_for_end(self, request: Request, record: Record) -> bool:
        """Wait with a foreground reply; false if the client hangs up first, which cancels its response."""
        left = False
        async with anyio.create_task_group() as tasks:

            async def cancel_when_left() -> None:
                nonlocal left
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                left = True
                self._archive.ask_cancel(record, self._clock.now())
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_when_left)
            await self._clock.sleep_until(min(record.ends_at, record.created_at + _A_YEAR_S))
            tasks.cancel_scope.cancel()
        return not left

    async def _show(self, record: Record, now: float) -> Response:
        """The response as it looks now; that a final state was told is on disk before it is told."""
        status = shown_status(record, now)
        if is_final(status) and record.delivered != status:
            self._archive.deliver(record, status)
        await self._state.committed()
        reply = Response(response_body(record, now), media_type="application/json")
        if not is_final(status) and self._settings.poll_after_ms is not None:
            reply.headers["openai-poll-after-ms"] = str(self._settings.poll_after_ms)
        return reply

    def _find(self, request: Request, now: float) -> Record:
        response_id = request.path_params["response_id"]
        record = self._archive.get(response_id)
        if record is None or not self._turns.is_known(record, now):
            raise not_found(response_id)
        return record

    def _take_poll(self) -> None:
        self._polls.take(self._clock.now(), tokens=0, model="this endpoint")


def _refuse_unsupported(fields: Mapping[str, Json]) -> None:
    """What the API can do and the sandbox cannot."""
    for name in ("prompt",):
        if fields.get(name):
            raise bad_request(f"The sandbox does not support '{name}'.", code="unsupported_parameter", param=name)


def _model_card(name: str) -> dict[str, Json]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "sandbox"}
