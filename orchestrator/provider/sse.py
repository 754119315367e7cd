"""Parses server-sent events from chunks of bytes of any size; no I/O."""

from __future__ import annotations

__all__ = ["SseParser"]


class SseParser:
    """Collects the data of events. Names, ids and retry times are ignored: the data of these events has a type.

    Lines may end in each of the three ways of the specification (WHATWG, "Server-sent events").
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Returns the data of each event that this chunk completes."""
        text = self._rest + chunk
        # A carriage return at the end may be the first half of a line ending.
        held, text = (b"\r", text[:-1]) if text.endswith(b"\r") else (b"", text)
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        found = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        return found

    @property
    def unfinished(self) -> bytes:
        """The data of an event whose end has not arrived."""
        name, _, value = self._rest.partition(b":")
        return b"\n".join([*self._data, *([value.removeprefix(b" ")] if name == b"data" else [])])

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
