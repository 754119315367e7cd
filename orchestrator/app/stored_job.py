"""The job of a run as the database keeps it, and where its file was."""

from __future__ import annotations

from pathlib import Path

from orchestrator.job.spec import Job
from orchestrator.stores.base import LearnedReader, Store
from orchestrator.stores.reads import Run

__all__ = ["note_job_file", "stored_job"]


async def note_job_file(store: Store, reader: LearnedReader, run: Run, job: Job) -> None:
    """Keep the place of the job file: paths in the job are relative to its folder."""
    path = str(job.source.resolve()).encode() if job.source is not None else b""
    if await reader.recall(_name(run)) != path:
        await store.remember(_name(run), path)


async def stored_job(reader: LearnedReader, run: Run) -> Job:
    """The job that a run was last worked on with."""
    path = await reader.recall(_name(run))
    return Job.model_validate_json(run.spec_json, context={"source": Path(path.decode()) if path else None})


def _name(run: Run) -> str:
    return f"job_file:{run.id}"
