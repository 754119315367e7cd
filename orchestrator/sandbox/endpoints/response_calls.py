"""The calls under ``/v1/responses``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.sandbox.endpoints.call_context import CallContext
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of, parse_object
from orchestrator.sandbox.endpoints.stream_replies import StreamReplies, stream_position
from orchestrator.sandbox.faults.api_errors import bad_request, not_found
from orchestrator.sandbox.faults.broken_replies import HangUp, Silence, lost_reply
from orchestrator.sandbox.faults.damaged_bodies import cut_off, with_odd_fields, with_odd_text
from orchestrator.sandbox.faults.fault_plan import DrawnFaults
from orchestrator.sandbox.faults.refused_calls import refusal_of_create, refusal_of_poll, wrong_key
from orchestrator.sandbox.faults.server_kinds import ImitatedServer
from orchestrator.sandbox.sandbox_settings import AccountLimits, CancelEnded, Idempotency
from orchestrator.sandbox.simulation.account_limits import Allowance
from orchestrator.sandbox.simulation.compaction import compact, compaction_body
from orchestrator.sandbox.simulation.creation import CreateCall, SimulatedCache, create_record
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.response_json import is_final, response_body
from orchestrator.sandbox.storage.response_record import ResponseRecord, has_ended, shown_status, true_status
from orchestrator.sandbox.validation.checks import check_compaction, check_create, check_token_count
from orchestrator.sandbox.validation.prompt_checks import read_checked_prompt

__all__ = ["ResponseCalls"]

Json: TypeAlias = Any

_A_YEAR_S = 365 * 86_400
# What the quirks of the settings do to the body of an ended response.
_DAMAGES: Mapping[str | None, Callable[[bytes], bytes]] = {
    "odd_text": with_odd_text,
    "odd_fields": with_odd_fields,
    "unreadable_end": cut_off,
}


class ResponseCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which decides its faults."""

    def __init__(self, context: CallContext, hang_up: HangUp) -> None:
        self._settings = context.settings
        self._state = context.state
        self._responses = context.responses
        self._history = context.history
        self._clock = context.clock
        self._hang_up = hang_up
        self._like = ImitatedServer(context.settings.like, context.clock.now())
        self._fault_plan = context.fault_plan
        self._streams = StreamReplies(context.state, context.responses, context.fault_plan, context.clock, hang_up)
        self._catalogue = context.catalogue
        self._prompt_cache = SimulatedCache()
        self._allowances = defaultdict[str, Allowance](
            lambda: Allowance(context.settings.limits, now=context.clock.now())
        )
        polls = AccountLimits(requests_per_minute=context.settings.limits.polls_per_minute, headers=False)
        self._polls = Allowance(polls, now=context.clock.now())

    async def create(self, request: Request, ordinal: int) -> Response:
        """POST /v1/responses: create a response, in the background or not, as a stream or not."""
        drawn = self._fault_plan.of_create(ordinal)
        fields, model = self._checked_create(await request.body(), drawn)
        now = self._clock.now()
        key = request.headers.get("idempotency-key")
        if key and self._settings.idempotency is Idempotency.HONOUR:
            known = self._responses.find_by_idempotency_key(key)
            if known is not None:
                self._state.count("create.replayed")
                return await self._show(known, now)
        record, headers = await self._accept(fields, model, drawn, now=now, key=key)
        if drawn.delivery is not None:
            return lost_reply(drawn.delivery, response_body(record, record.created_at), self._hang_up)
        if record.streamed:
            return self._streams.follow(request, record, after=-1, headers=headers)
        waits = not record.background or record.quirk == "background_ignored" or self._like.ignores_background
        if waits and not await self._wait_for_end(request, record):
            return Silence()
        reply = await self._show(record, self._clock.now())
        reply.headers.update(headers)
        return reply

    async def poll(self, request: Request, ordinal: int) -> Response:
        """GET /v1/responses/{response_id}: poll it, or follow its events (``stream=true``, ``starting_after``)."""
        fault = self._fault_plan.of_poll(ordinal)
        if fault == "poll_swapped":
            return await self._show_another(request)
        if fault is not None:
            unknown = not_found(request.path_params["response_id"])
            retry_after = self._settings.faults.retry_after
            raise refusal_of_poll(fault, not_found=unknown, retry_after=retry_after, hang_up=self._hang_up)
        self._take_poll()
        now = self._clock.now()
        record = self._find(request, now)
        after = stream_position(request.query_params)
        if after is None:
            at = self._like.shown_at(now, created_at=record.created_at, ends_at=record.ends_at)
            return await self._show(record, at)
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
            # A cancel also ends the quirk of the stale snapshot, so it is recorded even when it comes too late.
            self._responses.request_cancel(record, now)
        if has_ended(record, now) and self._settings.cancel_ended is CancelEnded.REFUSE:
            await self._state.committed()
            message = f"Cannot cancel a {true_status(record, now)} response."
            raise bad_request(message, code=None, param=None)
        return await self._show(self._find(request, now), now)

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/responses/{response_id}: delete it; one in progress still runs, and is charged."""
        self._take_poll()
        now = self._clock.now()
        record = self._find(request, now)
        self._responses.delete(record, now)
        await self._state.committed()
        return json_reply({"id": record.id, "object": "response", "deleted": True})

    async def input_items(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/responses/{response_id}/input_items: in pages, newest first unless ``order=asc``."""
        record = self._find(request, self._clock.now())
        return json_reply(page_of(self._history.input_items(record), request.query_params))

    async def count_tokens(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/responses/input_tokens: count the tokens of a request."""
        self._like.refuse_token_count()
        fields = parse_object(await request.body())
        check_token_count(fields, self._catalogue)
        now = self._clock.now()
        prompt = self._history.read(self._history.resolved(fields, now), now)
        return json_reply({"object": "response.input_tokens", "input_tokens": prompt.tokens})

    async def compact(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/responses/compact: compact a conversation; it is charged."""
        fields = parse_object(await request.body())
        model = check_compaction(fields, self._catalogue)
        now = self._clock.now()
        fields = self._history.resolved(fields, now)
        prompt = read_checked_prompt(fields, model, self._history, self._state, now)
        self._allowances[model.snapshot].take(now, tokens=prompt.tokens, model=model.name)
        record = compact(fields, prompt, model, ordinal=self._state.count("responses"), now=now)
        self._responses.add(record, orjson.dumps(fields.get("input")))
        await self._state.committed()
        return json_reply(compaction_body(record))

    def _checked_create(self, body: bytes, drawn: DrawnFaults) -> tuple[dict[str, Json], Model]:
        """The fields and the model of a create; raises ``ErrorReply`` if it is wrong or a fault refuses it."""
        if drawn.refusal != "flex_unavailable":
            self._refuse(drawn.refusal)
        self._refuse_by_schedule()
        fields = parse_object(body)
        model = check_create(fields, self._catalogue)
        _refuse_unsupported(fields)
        self._refuse_window(fields, model)
        self._like.refuse_create(self._clock.now())
        if model.name == "sandbox-rate-limited":
            self._refuse("rate_limited")
        if fields.get("service_tier") == "flex":
            self._refuse(drawn.refusal)
        return fields, model

    def _refuse_window(self, fields: Mapping[str, Json], model: Model) -> None:
        taken = self._settings.windows.models
        window = (fields.get("background_options") or {}).get("completion_window")
        if taken is not None and window in ("2h", "8h") and model.name not in taken:
            # The provider's own words are not known.
            param = "background_options.completion_window"
            raise bad_request(f"'{window}' is not supported with this model.", code="unsupported_value", param=param)

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
        self, fields: dict[str, Json], model: Model, drawn: DrawnFaults, *, now: float, key: str | None
    ) -> tuple[ResponseRecord, dict[str, str]]:
        """Checks prompt and limits, and stores the new response; returns it with the rate limit headers."""
        fields = self._history.resolved(fields, now)
        prompt = read_checked_prompt(fields, model, self._history, self._state, now)
        allowance = self._allowances[model.snapshot]
        allowance.take(now, tokens=prompt.tokens + (fields.get("max_output_tokens") or 0), model=model.name)
        call = CreateCall(
            fields=fields,
            model=model,
            prompt=prompt,
            drawn=drawn,
            ordinal=self._state.count("responses"),
            now=now,
            idempotency_key=key,
        )
        record = create_record(
            call, settings=self._settings, cache=self._prompt_cache, response_id=self._like.response_id()
        )
        self._state.count("create.accepted")
        self._like.accepted(record.ends_at)
        self._responses.add(record, orjson.dumps(fields.get("input")))
        await self._state.committed()
        return record, allowance.headers(now)

    async def _wait_for_end(self, request: Request, record: ResponseRecord) -> bool:
        """Waits until a response has ended; false if the client hangs up before, which cancels the response."""
        left = False
        async with anyio.create_task_group() as tasks:

            async def cancel_when_left() -> None:
                nonlocal left
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                left = True
                self._responses.request_cancel(record, self._clock.now())
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_when_left)
            await self._clock.sleep_until(min(record.ends_at, record.created_at + _A_YEAR_S))
            tasks.cancel_scope.cancel()
        return not left

    async def _show(self, record: ResponseRecord, now: float) -> Response:
        """The response as it is now; commits that a final status is delivered before it sends it."""
        status = shown_status(record, now)
        readable = record.quirk != "unreadable_end"
        if is_final(status) and record.delivered != status and readable:
            self._responses.mark_delivered(record, status)
        await self._state.committed()
        body = response_body(record, now)
        if is_final(status) and record.quirk in _DAMAGES:
            body = _DAMAGES[record.quirk](body)
        reply = Response(body, media_type="application/json")
        if not is_final(status) and self._settings.poll_after_ms is not None:
            reply.headers["openai-poll-after-ms"] = str(self._settings.poll_after_ms)
        return reply

    async def _show_another(self, request: Request) -> Response:
        """Another response in place of the one that is asked for, without counting it as delivered."""
        asked, now = request.path_params["response_id"], self._clock.now()
        other = self._responses.another_than(asked) or self._find(request, now)
        await self._state.committed()
        return Response(response_body(other, now), media_type="application/json")

    def _find(self, request: Request, now: float) -> ResponseRecord:
        response_id = request.path_params["response_id"]
        record = self._history.find_response(response_id, now)
        if record is None or self._like.ignores_background:
            raise self._like.unknown(response_id)
        return record

    def _take_poll(self) -> None:
        self._polls.take(self._clock.now(), tokens=0, model="this endpoint")


def _refuse_unsupported(fields: Mapping[str, Json]) -> None:
    """Refuses what the API supports and the sandbox does not."""
    if fields.get("prompt"):
        raise bad_request("The sandbox does not support 'prompt'.", code="unsupported_parameter", param="prompt")
