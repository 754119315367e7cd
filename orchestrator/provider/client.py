"""The calls of the Responses API: they send bytes, and return a response or a problem as a value."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, NonNegativeInt
from pydantic_core import to_json

from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem, Refused, ReplyLost
from orchestrator.provider.headers import poll_after
from orchestrator.provider.refusal import parse_refusal
from orchestrator.provider.reply_json import read_json
from orchestrator.provider.transport import Reply, Transport, TransportError
from orchestrator.provider.wire import UnreadableReply, parse_response, salvage_id

__all__ = ["CREATE_CODES", "CallFailed", "Collectible", "ResponsesClient", "read_response"]

# Some servers answer a create call with 201 or 202 (responses API, other servers).
CREATE_CODES = frozenset({200, 201, 202})

_JSON = {"Content-Type": "application/json"}
_PAGE = 100
# The usual characters of ids, which need no quoting in a path.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")

# The collections of stored objects, as in the provider's paths.
Collectible: TypeAlias = Literal["responses", "conversations", "files"]

_BodyT = TypeVar("_BodyT", bound=BaseModel)


class CallFailed(Exception):
    """A call during a listing failed; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{type(problem).__name__}: {_words(problem)}")
        self.problem = problem


def _day(text: Any) -> date | None:
    """Returns a day written as YYYY-MM-DD; None for anything else."""
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        return None


class _Deleted(BaseModel):
    deleted: bool


class _Counted(BaseModel):
    input_tokens: NonNegativeInt


class _Made(BaseModel):
    id: str = Field(min_length=1)


class _Page(BaseModel):
    data: list[Any]
    has_more: bool | None = None
    last_id: str | None = None


class ResponsesClient:
    """One provider. It returns problems as values and never raises them.

    ``create_codes`` are the statuses of a successful create call; ``status_aliases`` translates another server's
    words for a response's status. A ``Retry-After`` date is relative to ``clock``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        create_codes: Collection[int] = CREATE_CODES,
        status_aliases: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._create_codes = frozenset(create_codes)
        self._status_aliases = dict(status_aliases or {})
        self._clock = clock

    async def create(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem:
        """Create a response; a lost reply keeps the response's id if that part arrived."""
        headers = {**_JSON, "Idempotency-Key": idempotency_key, "X-Client-Request-Id": client_request_id}
        reply = await self._call("POST", "/responses", body=body, headers=headers)
        return self._seen(reply, created=True)

    async def retrieve(self, response_id: str) -> Seen | Problem:
        """Poll a response."""
        return self._seen(await self._call("GET", _path(response_id)))

    async def cancel(self, response_id: str) -> Seen | Problem:
        """Cancel a response; poll it afterwards, because servers answer differently once it has ended."""
        return self._seen(await self._call("POST", f"{_path(response_id)}/cancel"))

    async def delete(self, object_id: str, *, of: Collectible = "responses") -> bool | Problem:
        """Delete a stored object; returns True if the provider confirms it, False if it does not know the object.

        A 404 counts as "unknown" only if it is the API's own, which names the object or has an error code or type; a
        404 of a gateway without such a route is a ``Refused``.
        """
        reply = await self._call("DELETE", _path(object_id, of))
        if not isinstance(reply, Reply):
            return reply
        if reply.status == 404:
            refused = self._refused(reply)
            unknown = refused.code or refused.type or object_id in refused.message
            return False if unknown else refused
        confirmed = self._read(reply, _Deleted)
        if not isinstance(confirmed, _Deleted):
            return confirmed
        return True if confirmed.deleted else ReplyLost(reason="the deletion is not confirmed", status=reply.status)

    async def check_stored(self, object_id: str, *, of: Collectible = "responses") -> Problem | None:
        """Returns None if the provider stores the object, else what it answered."""
        reply = await self._call("GET", _path(object_id, of))
        if not isinstance(reply, Reply):
            return reply
        return self._refused(reply) if reply.status >= 300 else None

    async def count_input_tokens(self, body: bytes) -> int | Problem:
        """Returns the input tokens of a request as the provider counts them."""
        reply = await self._call("POST", "/responses/input_tokens", body=body, headers=_JSON)
        counted = self._read(reply, _Counted)
        return counted.input_tokens if isinstance(counted, _Counted) else counted

    async def input_items(self, response_id: str, *, order: str = "asc") -> AsyncIterator[bytes]:
        """Yields the input items of a response, each as JSON, over all pages; raises ``CallFailed``."""
        async for item in self._listed(f"{_path(response_id)}/input_items", order):
            yield to_json(item)

    async def conversation_items(self, conversation_id: str) -> AsyncIterator[str]:
        """Yields the ids of a conversation's items, over all pages; raises ``CallFailed``."""
        async for item in self._listed(f"{_path(conversation_id, 'conversations')}/items", "asc"):
            if isinstance(item, dict) and isinstance(item.get("id"), str):
                yield item["id"]

    async def delete_item(self, conversation_id: str, item_id: str) -> bool | Problem:
        """Delete an item of a conversation; returns False if it was not in it."""
        path = f"{_path(conversation_id, 'conversations')}/items/{quote(item_id, safe='')}"
        reply = await self._call("DELETE", path)
        if not isinstance(reply, Reply):
            return reply
        if reply.status == 404:
            return False
        # Unlike other deletions, it answers with the conversation.
        return self._refused(reply) if reply.status >= 300 else True

    async def _listed(self, path: str, order: str | None) -> AsyncIterator[Any]:
        after: str | None = None
        seen: set[str] = set()
        while True:
            # Each page repeats the order: a page requested without it comes in reverse.
            query = {"limit": str(_PAGE)} | ({"order": order} if order else {}) | ({"after": after} if after else {})
            page = self._read(await self._call("GET", f"{path}?{urlencode(query)}"), _Page)
            if not isinstance(page, _Page):
                raise CallFailed(page)
            for item in page.data:
                yield item
            after = page.last_id or _last_id(page.data)
            # Otherwise a server without paging would send its only page forever.
            if not page.has_more or after is None or after in seen:
                return
            seen.add(after)

    async def create_conversation(self, metadata: Mapping[str, str]) -> str | Problem:
        """Create a conversation to which responses can be added; returns its id."""
        reply = await self._call("POST", "/conversations", body=to_json({"metadata": metadata}), headers=_JSON)
        made = self._read(reply, _Made)
        return made.id if isinstance(made, _Made) else made

    async def upload(self, name: str, content: bytes, *, purpose: str) -> str | Problem:
        """Upload a file for requests; returns its id. If the reply is lost, the file remains at the provider."""
        boundary, body = _form(name, content, purpose)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        made = self._read(await self._call("POST", "/files", body=body, headers=headers), _Made)
        return made.id if isinstance(made, _Made) else made

    async def models(self) -> list[str] | Problem:
        """The names of the models that this key may use."""
        offered = await self.offered_models()
        return [*offered] if isinstance(offered, dict) else offered

    async def offered_models(self) -> dict[str, date | None] | Problem:
        """The models that this key may use, each with the day on which it is shut down, if one is announced."""
        page = self._read(await self._call("GET", "/models"), _Page)
        if not isinstance(page, _Page):
            return page
        items = [item for item in page.data if isinstance(item, dict) and isinstance(item.get("id"), str)]
        return {item["id"]: _day(item.get("shutdown_date")) for item in items}

    async def ask(
        self, method: str, path: str, model: type[_BodyT], *, body: Mapping[str, Any] | None = None
    ) -> _BodyT | Problem:
        """Make a call that belongs to no request; returns its reply, checked."""
        if body is None:
            return self._read(await self._call(method, path), model)
        return self._read(await self._call(method, path, body=to_json(body), headers=_JSON), model)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    async def _call(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply | Problem:
        try:
            return await self._transport.call(method, path, body=body, headers=headers)
        except TransportError as error:
            partial = error.partial
            if partial is None:
                return error.problem
            if partial.status >= 300:
                # The status is the answer, even if the explanation is missing.
                return partial
            lost = error.problem if isinstance(error.problem, ReplyLost) else ReplyLost(reason=error.problem.reason)
            found = salvage_id(partial.body) if path.startswith("/responses") else None
            return replace(lost, status=partial.status, response_id=found)

    def _seen(self, reply: Reply | Problem, *, created: bool = False) -> Seen | Problem:
        if not isinstance(reply, Reply):
            return reply
        if reply.status >= 300:
            return self._refused(reply)
        if created and reply.status not in self._create_codes:
            reason = f"HTTP status {reply.status} is not one that a create call answers with"
            return ReplyLost(reason=reason, status=reply.status, response_id=salvage_id(reply.body))
        return read_response(reply, self._status_aliases, created=created)

    def _refused(self, reply: Reply) -> Refused:
        try:
            return parse_refusal(reply, now=self._clock())
        except Exception as error:  # noqa: BLE001  # one reply must not stop the others, whatever it holds
            return Refused(status=reply.status, message=unreadable_because(error))

    def _read(self, reply: Reply | Problem, model: type[_BodyT]) -> _BodyT | Problem:
        if not isinstance(reply, Reply):
            return reply
        if reply.status >= 300:
            return self._refused(reply)
        try:
            return model.model_validate(read_json(reply.body)[0])
        except ValueError:  # pydantic's errors are of this kind, too
            return ReplyLost(reason="the reply is not what this call answers with", status=reply.status)


def read_response(reply: Reply, status_aliases: Mapping[str, str], *, created: bool = True) -> Seen | ReplyLost:
    """Returns the response in a whole reply, or a problem; that of a create call has the id if it can be read."""
    try:
        response = parse_response(reply.body, status_aliases=status_aliases)
        asked_s = poll_after(reply.headers)
        return Seen(response=response, headers=reply.headers, poll_after_s=asked_s, lease=reply.lease)
    except UnreadableReply as error:
        reason, foreign = str(error), error.foreign
    except Exception as error:  # noqa: BLE001  # one reply must not stop the others, whatever it holds
        reason, foreign = unreadable_because(error), False
    found = salvage_id(reply.body) if created else None
    return ReplyLost(reason=reason, status=reply.status, response_id=found, unreadable=not foreign)


def unreadable_because(error: Exception) -> str:
    """Returns why a reply cannot be read: the type of the error, never its text, which may quote the reply."""
    return f"the reply cannot be read ({type(error).__name__})"


def _form(name: str, content: bytes, purpose: str) -> tuple[str, bytes]:
    """Returns the boundary and the body of a multipart form with a purpose and a file."""
    boundary = f"orchestrator-{secrets.token_hex(16)}"
    filename = "".join(letter if letter.isprintable() and letter not in '"\\' else "_" for letter in name)
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    return boundary, b"".join(
        (
            f'{begin}"purpose"\r\n\r\n{purpose}\r\n'.encode(),
            f'{begin}"file"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _path(object_id: str, of: Collectible = "responses") -> str:
    return f"/{of}/{object_id if _PLAIN.fullmatch(object_id) else quote(object_id, safe='')}"


def _last_id(items: list[Any]) -> str | None:
    last = items[-1] if items else None
    found = last.get("id") if isinstance(last, dict) else None
    return found if isinstance(found, str) else None


def _words(problem: Problem) -> str:
    return problem.message if isinstance(problem, Refused) else problem.reason
