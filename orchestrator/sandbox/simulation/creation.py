"""Makes the response to a create: its answer, its usage, and when it will start and end."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import WINDOWS
from orchestrator.core.model import Usage
from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.faults.fault_plan import DrawnFaults
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.simulation.answers import Answer, answer
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.prompts import Prompt
from orchestrator.sandbox.simulation.response_json import echo_of
from orchestrator.sandbox.simulation.schema_instances import UnusableSchema
from orchestrator.sandbox.storage.response_record import ResponseRecord, echoed_tier

__all__ = ["CreateCall", "SimulatedCache", "conversation_of", "create_record"]

Json: TypeAlias = Any

# The client's metadata that names the request.
_RUN, _KEY, _ATTEMPT = "orchestrator_run", "orchestrator_key", "orchestrator_attempt"
_RESERVED_ENDINGS = {
    "sandbox-failed": "failed_server_error",
    "sandbox-incomplete": "incomplete",
    "sandbox-refusal": "refusal",
}


class SimulatedCache:
    """The prompt cache: a prompt whose first 1,024 tokens were sent before counts them as cached."""

    TOKENS = 1_024
    # This many characters of nearly any text are at least 1,024 tokens.
    _CHARACTERS = 6_000
    _REMEMBERED = 10_000

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def look_up(self, fields: Mapping[str, Json], prompt: Prompt, model: Model) -> tuple[int, int]:
        """The tokens read from the cache, and the tokens written to it; ``is_long_lived`` says for how long."""
        options = fields.get("prompt_cache_options") or {}
        beginning = f"{prompt.instructions}\n{prompt.text}"[: self._CHARACTERS]
        if options.get("mode") == "explicit" or prompt.tokens < self.TOKENS or len(beginning) < self._CHARACTERS:
            return 0, 0
        mark = f"{model.snapshot}\n{fields.get('prompt_cache_key')}\n{beginning}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(mark, digest_size=12).digest()
        known = digest in self._seen
        self._seen[digest] = None
        self._seen.move_to_end(digest)
        if len(self._seen) > self._REMEMBERED:
            self._seen.popitem(last=False)
        if known:
            return self.TOKENS, 0
        return 0, self.TOKENS if model.cache_writes else 0


# Seconds, by the name of a completion window.
_WINDOW_S = dict(WINDOWS.values())


@fast_dataclass
class CreateCall:
    """One accepted create: its request, its model, its time, and the faults and durations drawn for it."""

    fields: Mapping[str, Json]
    model: Model
    prompt: Prompt
    drawn: DrawnFaults
    ordinal: int
    now: float
    idempotency_key: str | None


def is_long_lived(fields: Mapping[str, Json]) -> bool:
    """Whether a request asks for twelve hours in the prompt cache."""
    return (fields.get("prompt_cache_options") or {}).get("ttl") == "12h"


def conversation_of(fields: Mapping[str, Json]) -> str | None:
    """The id of the conversation that a request belongs to, given alone or in an object."""
    conversation = fields.get("conversation")
    return conversation["id"] if isinstance(conversation, dict) else conversation


def create_record(
    call: CreateCall, *, settings: SandboxSettings, cache: SimulatedCache, response_id: str | None = None
) -> ResponseRecord:
    """The response to a create, with all that was drawn for it; raises ``ErrorReply`` for an unusable schema."""
    response_id = response_id or f"resp_{secrets.token_hex(25)}"
    ending = _RESERVED_ENDINGS.get(call.model.name, call.drawn.ending)
    quirk = call.drawn.quirk
    answered = _answer(call, ending, response_id, settings)
    starts_at, ends_at = _times(call, ending, quirk, settings)
    metadata = call.fields.get("metadata") or {}
    return ResponseRecord(
        id=response_id,
        ordinal=call.ordinal,
        created_at=call.now,
        starts_at=starts_at,
        ends_at=ends_at,
        end_status=answered.status,
        error_code=answered.error_code,
        incomplete_reason=answered.incomplete_reason,
        usable=answered.usable,
        usage=_usage(call, answered, quirk, cache) if answered.status != "failed" else None,
        model=call.model.snapshot,
        tier=echoed_tier(call.fields.get("service_tier")),
        window=(call.fields.get("background_options") or {}).get("completion_window"),
        background=bool(call.fields.get("background")),
        stored=call.fields.get("store") is not False,
        streamed=bool(call.fields.get("stream")),
        echo=echo_of(call.fields, call.model),
        output=answered.output,
        hosted=answered.hosted,
        quirk=quirk,
        lost_by=call.drawn.delivery,
        run=metadata.get(_RUN),
        key=metadata.get(_KEY),
        attempt=metadata.get(_ATTEMPT),
        idempotency_key=call.idempotency_key,
        previous_id=call.fields.get("previous_response_id"),
        conversation_id=conversation_of(call.fields),
    )


def _answer(call: CreateCall, ending: str | None, response_id: str, settings: SandboxSettings) -> Answer:
    try:
        return answer(
            call.fields,
            call.prompt,
            call.model,
            ending=ending,
            response_id=response_id,
            seed=settings.seed,
            tools=settings.tools,
        )
    except UnusableSchema as error:
        raise bad_request(f"Invalid schema: {error}.", code="invalid_json_schema", param=None) from error


def _times(call: CreateCall, ending: str | None, quirk: str | None, settings: SandboxSettings) -> tuple[float, float]:
    if quirk == "terminal_in_create":
        return call.now, call.now
    if ending == "stuck_queued":
        return math.inf, math.inf
    options = call.fields.get("background_options") or {}
    window_s = _WINDOW_S.get(options.get("completion_window") or "", 0.0)
    starts_at = call.now + call.drawn.queue_s + settings.windows.used * window_s
    if ending == "stuck_in_progress":
        return starts_at, math.inf
    return starts_at, starts_at + (settings.slow_run_s if call.model.name == "sandbox-slow" else call.drawn.run_s)


def _usage(call: CreateCall, answered: Answer, quirk: str | None, cache: SimulatedCache) -> Usage:
    # An ill-typed response shows no details, so it must not have any that would change its price.
    plain = quirk == "ill_typed"
    cached, written = (0, 0) if plain else cache.look_up(call.fields, call.prompt, call.model)
    input_tokens = call.prompt.tokens + answered.found_tokens
    return Usage(
        input_tokens=input_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_12h_tokens=written if is_long_lived(call.fields) else 0,
        output_tokens=answered.output_tokens,
        reasoning_tokens=0 if plain else answered.reasoning_tokens,
        total_tokens=input_tokens + answered.output_tokens,
    )
