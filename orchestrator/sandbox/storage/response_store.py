"""The stored responses: add, find, cancel, delete, mark as delivered."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import fields

from orchestrator.core.model import Usage
from orchestrator.sandbox.storage.response_record import ResponseRecord
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["ResponseStore"]

_CHUNK = 500

_USAGE = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_write_12h_tokens",
)
_BODIES = ("echo", "output")
_PLAIN = tuple(field.name for field in fields(ResponseRecord) if field.name not in {"usage", *_BODIES})
_COLUMNS = (*_PLAIN, *_USAGE)

# The column names in these statements come from this module, never from a client.
_SELECTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
_INSERT = f"INSERT INTO response ({_SELECTED}, echo, output, input) VALUES ({_VALUES}, :echo, :output, :input)"  # noqa: S608
_SELECT = f"SELECT {_SELECTED}, echo, output FROM response"  # noqa: S608
_SELECT_LIGHT = (
    f"SELECT {_SELECTED}, x'' AS echo, x'' AS output FROM response "  # noqa: S608
    "WHERE ordinal > ? ORDER BY ordinal LIMIT ?"
)


class ResponseStore:
    """The stored responses; in memory at most ``keep_bodies`` keep their text, and older ones count as deleted."""

    def __init__(self, state: SandboxDatabase, *, keep_bodies: int) -> None:
        self._state = state
        self._bodies: deque[int] | None = deque(maxlen=keep_bodies) if state.in_memory else None

    def add(self, record: ResponseRecord, input_json: bytes) -> None:
        """Stores a new response and the JSON of its input."""
        self.add_batch_response(record, input_json)
        if self._bodies is not None:
            if len(self._bodies) == self._bodies.maxlen:
                self._drop_body(self._bodies[0], record.created_at)
            self._bodies.append(record.ordinal)

    def add_batch_response(self, record: ResponseRecord, input_json: bytes) -> None:
        """Stores a response of a batch, which keeps its text."""
        values = {name: getattr(record, name) for name in (*_PLAIN, *_BODIES)}
        values |= {name: getattr(record.usage, name, None) for name in _USAGE}
        self._state.write(_INSERT, values | {"input": input_json})

    def get(self, response_id: str) -> ResponseRecord | None:
        """The response of that id, even if it is deleted."""
        return self._one(f"{_SELECT} WHERE id = ?", response_id)

    def another_than(self, response_id: str) -> ResponseRecord | None:
        """The newest response of another id, if there is one."""
        return self._one(f"{_SELECT} WHERE id <> ? ORDER BY ordinal DESC LIMIT 1", response_id)

    def find_by_prefix(self, prefix: str) -> ResponseRecord | None:
        """The response whose id begins like this."""
        # "g" comes after every hexadecimal digit.
        row = self._state.row(f"{_SELECT} WHERE id >= ? AND id < ?", (prefix, f"{prefix}g"))
        return _record(row) if row else None

    def find_by_idempotency_key(self, key: str) -> ResponseRecord | None:
        """The first response created under a key."""
        return self._one(f"{_SELECT} WHERE idempotency_key = ? ORDER BY ordinal LIMIT 1", key)

    def input_of(self, response_id: str) -> bytes:
        """The JSON of the input that the response was created with."""
        row = self._state.row("SELECT input FROM response WHERE id = ?", (response_id,))
        return bytes(row["input"]) if row else b"null"

    def pending_in(self, conversation_id: str) -> list[ResponseRecord]:
        """The responses whose items are not yet in their conversation, oldest first."""
        condition = "conversation_id = ? AND in_conversation = 0 ORDER BY ordinal"
        return [_record(row) for row in self._state.rows(f"{_SELECT} WHERE {condition}", (conversation_id,))]

    def mark_in_conversation(self, record: ResponseRecord) -> None:
        """Records that the items of a response are in its conversation."""
        self._state.write("UPDATE response SET in_conversation = 1 WHERE id = ?", (record.id,))

    def request_cancel(self, record: ResponseRecord, now: float) -> None:
        """Records when a client asked for the cancel, which decides how the response ends."""
        self._state.write("UPDATE response SET cancel_asked_at = ? WHERE id = ?", (now, record.id))

    def keep_queued(self, record: ResponseRecord) -> None:
        """Keeps a queued response queued until it is cancelled."""
        values = (math.inf, math.inf, record.id)
        self._state.write("UPDATE response SET starts_at = ?, ends_at = ? WHERE id = ?", values)

    def delete(self, record: ResponseRecord, now: float) -> None:
        """Hides a response from every call; the ledger still counts it."""
        self._state.write("UPDATE response SET deleted_at = ? WHERE id = ?", (now, record.id))

    def mark_delivered(self, record: ResponseRecord, status: str) -> None:
        """Records that a client receives this final status."""
        self._state.write("UPDATE response SET delivered = ? WHERE id = ?", (status, record.id))

    def light_records_after(self, ordinal: int) -> list[ResponseRecord]:
        """The next responses in the order of their creation, without their bodies; at most some thousand."""
        return [_record(row) for row in self._state.rows(_SELECT_LIGHT, (ordinal, _CHUNK))]

    async def records(self) -> AsyncIterator[ResponseRecord]:
        """All responses in the order of their creation, without their bodies; lets other calls run in between."""
        ordinal = -1
        while rows := self._state.rows(_SELECT_LIGHT, (ordinal, _CHUNK)):
            for row in rows:
                yield _record(row)
            ordinal = rows[-1]["ordinal"]
            await asyncio.sleep(0)

    def _one(self, query: str, key: str) -> ResponseRecord | None:
        row = self._state.row(query, (key,))
        return _record(row) if row else None

    def _drop_body(self, ordinal: int, now: float) -> None:
        self._state.write(
            "UPDATE response SET deleted_at = coalesce(deleted_at, ?), echo = x'', output = x'', input = x'' "
            "WHERE ordinal = ?",
            (now, ordinal),
        )


def _record(row: sqlite3.Row) -> ResponseRecord:
    values = dict(row)
    tokens = {name: values.pop(name) for name in _USAGE}
    usage = None
    if tokens["input_tokens"] is not None:
        usage = Usage(**tokens, total_tokens=tokens["input_tokens"] + tokens["output_tokens"])
    flags = {name: bool(values[name]) for name in ("background", "stored", "streamed", "usable")}
    return ResponseRecord(**values | flags | {"usage": usage})
