"""Rows and lines to put into files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from orchestrator.job.rows.keyed_rows import Row, UnreadableRow
from orchestrator.job.spec import Job

REQUEST = {"model": "gpt-5-mini", "input": "Summarise: {{ text }}"}

Write: TypeAlias = Callable[[str, str | bytes], Path]


class MakeJob(Protocol):
    def __call__(self, *, path: str = ..., request: Mapping[str, Any] | None = ..., **fields: Any) -> Job: ...


def lines(*rows: object) -> str:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def batch_line(custom_id: str = "a", *, url: str = "/v1/responses", **body: Any) -> dict[str, Any]:
    """One line of an OpenAI batch file."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": body or {"model": "gpt-5-mini", "input": "Hello"},
    }


def shown(rows: Iterable[Row | UnreadableRow], folder: Path) -> list[tuple[str, str]]:
    """Where each row is, and its key, or why it has none."""
    return [
        (row.where.replace(f"{folder}/", ""), row.key if isinstance(row, Row) else f"! {row.reason}") for row in rows
    ]
