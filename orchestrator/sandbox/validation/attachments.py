"""Files in a message: those that a request names must be there, and what is plain text is read."""

from __future__ import annotations

from base64 import b64decode
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from orchestrator.sandbox.endpoints.files import content_of
from orchestrator.sandbox.faults.api_errors import Denied, bad_request
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["attached_texts", "check_files"]

Json: TypeAlias = Any

_LONGEST = 200_000


def check_files(items: Json, state: SandboxDatabase, now: float) -> None:
    """Raise ``Denied`` (400) if the input names a file that is not there."""
    for item in items if isinstance(items, list) else ():
        for part in _parts(item):
            if isinstance(part.get("file_id"), str):
                try:
                    content_of(state, part["file_id"], now)
                except Denied:
                    # Which code the provider gives for it is not known.
                    message = f"No such File object: {part['file_id']}"
                    raise bad_request(message, code=None, param="input") from None


def attached_texts(item: Mapping[str, Json], state: SandboxDatabase, now: float) -> Iterator[str]:
    """The texts of a message's files; a file that is gone meanwhile, or holds no text, has none."""
    for part in _parts(item):
        try:
            content = _content(part, state, now)
            # The cut may go through a character.
            text = "" if b"\0" in content else getincrementaldecoder("utf-8")().decode(content[:_LONGEST])
        except (Denied, ValueError):
            continue
        if text:
            yield text


def _parts(item: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") in ("input_file", "input_image"):
            yield part


def _content(part: Mapping[str, Json], state: SandboxDatabase, now: float) -> bytes:
    file_id, data = part.get("file_id"), part.get("file_data")
    if isinstance(file_id, str):
        return content_of(state, file_id, now)[1]
    if isinstance(data, str) and data.startswith("data:text/"):
        return b64decode(data.partition(",")[2])
    return b""
