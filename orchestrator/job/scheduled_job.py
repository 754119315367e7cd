"""The little of a job file that says when it is due, read without checking the rest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.errors import NotScheduled
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.document import Document
from orchestrator.job.schedule_section import Schedule

__all__ = ["ScheduledJob", "content_hash", "read_scheduled_job"]


class _Named(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", max_length=100)
    schedule: Schedule | None = None


@fast_dataclass(kw_only=False)
class ScheduledJob:
    """A job file with a schedule. ``content`` is a hash of it, by which a later call knows that it is the same."""

    path: Path
    name: str
    schedule: Schedule
    content: str


def read_scheduled_job(path: Path) -> ScheduledJob:
    """Read when a job is due; raises ``SpecError`` if the file is wrong, ``NotScheduled`` if it has no schedule."""
    named = Document.read(path, kind="job").validate(_Named)
    if named.schedule is None:
        raise NotScheduled(
            "the job has no schedule", where=str(path), hint="add schedule: {at: '02:15', zone: Europe/Berlin}"
        )
    return ScheduledJob(path, named.name, named.schedule, content_hash(path))


def content_hash(path: Path) -> str:
    """A hash of a file; of nothing if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
