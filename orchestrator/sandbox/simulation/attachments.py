"""Files in a message: those that it refers to, and the texts of those that are plain text."""

from __future__ import annotations

from base64 import b64decode
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import ErrorReply
from orchestrator.sandbox.storage.file_store import read_file
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["attached_texts", "file_parts"]

Json: TypeAlias = Any

_MAX_BYTES = 200_000


def file_parts(item: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """The parts of a message that are files or images."""
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") in ("input_file", "input_image"):
            yield part


def attached_texts(item: Mapping[str, Json], state: SandboxDatabase, now: float) -> Iterator[str]:
    """The texts of a message's files; leaves out files that are deleted or hold no text."""
    for part in file_parts(item):
        try:
            content = _content(part, state, now)
            # The cut may split a character.
            text = "" if b"\0" in content else getincrementaldecoder("utf-8")().decode(content[:_MAX_BYTES])
        except (ErrorReply, ValueError):
            continue
        if text:
            yield text


def _content(part: Mapping[str, Json], state: SandboxDatabase, now: float) -> bytes:
    file_id, data = part.get("file_id"), part.get("file_data")
    if isinstance(file_id, str):
        return read_file(state, file_id, now)
    if isinstance(data, str) and data.startswith("data:text/"):
        return b64decode(data.partition(",")[2])
    return b""
