"""The schemas that the shipped jobs and configs name for editors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docs.generator.pages import ROOT
from orchestrator.config import config_schema
from orchestrator.job.schema import job_schema

__all__ = ["SCHEMA_FILES", "schema_text"]

SCHEMA_FILES: Mapping[Path, Callable[[], dict[str, Any]]] = {
    ROOT / "docs/reference/job.schema.json": job_schema,
    ROOT / "docs/reference/config.schema.json": config_schema,
}


def schema_text(path: Path) -> str:
    """The content of a schema file."""
    return json.dumps(SCHEMA_FILES[path](), separators=(",", ":"), ensure_ascii=False) + "\n"
