"""Job files and their input, on real disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.spec import Job, load_job

from .builders import REQUEST, MakeJob, Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file under the test's folder; ``.gz`` is compressed."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def make_job(write: Write) -> MakeJob:
    """A job in the test's folder. ``fields`` are those of ``input``; the file is JSON, which is YAML too."""

    def make(*, path: str = "rows.jsonl", request: Mapping[str, Any] | None = None, **fields: Any) -> Job:
        spec: dict[str, Any] = {"name": "a-job", "input": {"path": path, **fields}}
        chosen = REQUEST if request is None else request
        if chosen:
            spec["request"] = dict(chosen)
        return load_job(write("job.yaml", json.dumps(spec)))

    return make


@pytest.fixture
def refusal_of(write: Write, tmp_path: Path) -> Callable[[str], str]:
    """The message with which a job file is refused, with the test's folder taken out."""
    write("rows.jsonl", '{"text": "x"}\n')

    def refusal_of(text: str) -> str:
        with pytest.raises(SpecError) as caught:
            load_job(write("job.yaml", text))
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refusal_of
