"""Makes the fields of a create call from a rendered row: for sending, ``show``, the dry run and the estimate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import orjson

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.chains import Chain
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.requests.turns import in_conversation, with_continuation, with_history
from orchestrator.job.spec import Job

__all__ = [
    "FIRST",
    "NOT_ASKED",
    "RequestRules",
    "RowState",
    "compose",
    "compose_first",
    "fingerprint",
    "request_rules",
]

# Fields that say whose a request is, and not what is asked.
NOT_ASKED = ("metadata", "safety_identifier", "user", "prompt_cache_key")
# The fields that the model reads before a row's own text, in its order.
_PREFIX = ("model", "tools", "text", "instructions")


@fast_dataclass
class RequestRules:
    """What a job and its config add to every request beyond ``request`` itself."""

    cap_output_tokens: int | None = None
    cache_key: bool = False
    stream: bool = False
    chain: Chain | None = None


class RowState(Protocol):
    """What earlier attempts and earlier turns left behind for the next create call of a row."""

    @property
    def conversation_id(self) -> str | None: ...

    @property
    def earlier_response_id(self) -> str | None: ...

    @property
    def max_output_tokens(self) -> int | None: ...


@fast_dataclass
class _Unsent:
    conversation_id: str | None = None
    earlier_response_id: str | None = None
    max_output_tokens: int | None = None


# The state of a row that was never sent, and that no turn precedes.
FIRST: RowState = _Unsent()


def request_rules(job: Job, *, cap_output_tokens: int | None) -> RequestRules:
    """The rules of a job; ``cap_output_tokens`` is the cap that applies to it, or None."""
    return RequestRules(
        cap_output_tokens=cap_output_tokens,
        cache_key=job.prompt_cache is not None and job.prompt_cache.key,
        stream=job.stream,
        chain=job.chain,
    )


def compose(
    rendered: Mapping[str, Any],
    rules: RequestRules,
    row: RowState = FIRST,
    *,
    history: Iterable[tuple[Any, str]] = (),
    continuation: bytes | None = None,
) -> dict[str, Any]:
    """The fields of a create call, all but those that the executor adds.

    ``history`` are the inputs and answers of earlier turns, the latest first, which a stateless chain carries along.
    ``continuation`` is what a further turn of the same row replaces.
    """
    fields = dict(rendered) if rules.chain is None else _linked(rendered, rules.chain, row, history)
    if rules.cap_output_tokens is not None and fields.get("max_output_tokens") is None:
        fields["max_output_tokens"] = rules.cap_output_tokens
    if rules.cache_key and "prompt_cache_key" not in fields:
        fields["prompt_cache_key"] = _cache_key(fields)
    if rules.stream:
        fields["stream"] = True
    if row.max_output_tokens is not None:
        fields["max_output_tokens"] = row.max_output_tokens
    return fields if continuation is None else with_continuation(fields, continuation)


def compose_first(renderer: Renderer, rules: RequestRules, packed: bytes, *, where: str) -> dict[str, Any]:
    """The fields of the first create call of a packed row; raises ``BadRow``."""
    return compose(renderer.render(packed, where=where), rules)


def fingerprint(fields: Mapping[str, Any], *, provider: str) -> bytes | None:
    """Sixteen bytes that are equal for requests that ask the same of the same provider.

    None in a conversation, where the answer depends on turns that are not in the request.
    """
    if "conversation" in fields:
        return None
    asked = {name: value for name, value in fields.items() if name not in NOT_ASKED}
    if asked.get("stream") is True:  # set by the job's ``stream``, which changes the delivery and not the answer
        del asked["stream"]
    encoded = exact_json.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=16, key=_key_of(provider)).digest()


@lru_cache
def _key_of(provider: str) -> bytes:
    return hashlib.blake2b(provider.encode()).digest()


def _linked(
    rendered: Mapping[str, Any], chain: Chain, row: RowState, history: Iterable[tuple[Any, str]]
) -> dict[str, Any]:
    """A copy of the fields with what ties a turn of a chain to the turns before it."""
    match chain.mode:
        case "conversation" if row.conversation_id is not None:
            return in_conversation(rendered, row.conversation_id)
        case "previous_response" if row.earlier_response_id is not None:
            return {**rendered, "previous_response_id": row.earlier_response_id}
        case "stateless":
            return with_history(rendered, history, most_tokens=chain.history_tokens)
    return dict(rendered)


def _cache_key(fields: Mapping[str, Any]) -> str:
    """A ``prompt_cache_key`` for the requests that begin alike: same model, tools, format and instructions."""
    prefix = exact_json.dumps([fields.get(name) for name in _PREFIX])
    return f"prefix-{hashlib.blake2b(prefix, digest_size=12).hexdigest()}"
