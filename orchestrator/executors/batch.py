"""Requests that are answered as the lines of a batch: its calls are made for many of them at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.executors.background import BackgroundExecutor, create_body
from orchestrator.executors.base import Capabilities

__all__ = ["BatchExecutor"]

_MOST_LINES = 50_000


class BatchExecutor(BackgroundExecutor):
    """Encodes the lines; the task of the lane sends and collects them, and the engine polls none of them alone."""

    capabilities = Capabilities(poll=False, cancel=False, requests_per_call=_MOST_LINES)

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, stage: str, number: int) -> bytes:
        """The body of a line: a batch always runs in the background, and a line must not say so."""
        asked = {name: value for name, value in fields.items() if name not in ("background", "stream")}
        return create_body(asked, run_uid=run_uid, key=key, stage=stage, number=number, background=False)
