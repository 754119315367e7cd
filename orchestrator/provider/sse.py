"""Parses server-sent events from chunks of bytes of any size; no I/O."""

from __future__ import annotations

import re

__all__ = ["EventTooLarge", "SseParser"]

_LINE_END = re.compile(rb"\r\n|\r|\n")


class EventTooLarge(Exception):
    """An event has more bytes than the parser keeps."""


class SseParser:
    """Collects the data of events. Names, ids and retry times are ignored: the data of these events has a type.

    Lines may end in each of the three ways of the specification (WHATWG, "Server-sent events"). An event of more than
    ``most_bytes`` raises ``EventTooLarge``.
    """

    def __init__(self, most_bytes: int = 2**25) -> None:
        self._most_bytes = most_bytes
        # The pieces of a line whose end has not arrived; joined once it has, so that each byte is copied once.
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Returns the data of each event that this chunk completes."""
        if self._pieces and self._pieces[-1] == b"\r":
            # It was held back, because it may have been the first half of a line ending.
            chunk = self._pieces.pop() + chunk
        held, chunk = (b"\r", chunk[:-1]) if chunk.endswith(b"\r") else (b"", chunk)
        first, *lines = _LINE_END.split(chunk)
        self._add(first)
        found: list[bytes] = []
        for line in lines:
            self._end_line(found)
            self._add(line)
        self._add(held)
        return found

    @property
    def unfinished(self) -> bytes:
        """The data of an event whose end has not arrived."""
        name, _, value = b"".join(self._pieces).partition(b":")
        return b"\n".join([*self._data, *([value.removeprefix(b" ")] if name == b"data" else [])])

    def _add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > self._most_bytes:
                raise EventTooLarge

    def _end_line(self, found: list[bytes]) -> None:
        line = b"".join(self._pieces)
        self._pieces.clear()
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            else:
                self._size -= len(line)
        else:
            self._size = 0
            if self._data:
                found.append(b"\n".join(self._data))
                self._data = []
