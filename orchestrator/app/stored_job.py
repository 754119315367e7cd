"""The job of a run as the database keeps it, and where its file was."""

from __future__ import annotations

from pathlib import Path

from orchestrator.job.spec import Job
from orchestrator.stores.base import LearnedReader, Store
from orchestrator.stores.reads import Run

__all__ = ["name_of_job_file", "note_job_file", "stored_job"]


async def note_job_file(store: Store, reader: LearnedReader, run: Run, job: Job) -> None:
    """Keep the place of the job file: paths in the job are relative to its folder."""
    path = str(job.source.resolve()).encode() if job.source is not None else b""
    if await reader.recall(name_of_job_file(run)) != path:
        await store.remember(name_of_job_file(run), path)


async def stored_job(reader: LearnedReader, run: Run) -> Job:
    """The job that a run was last worked on with."""
    path = await reader.recall(name_of_job_file(run))
    return Job.model_validate_json(run.spec_json, context={"source": Path(path.decode()) if path else None})


def name_of_job_file(run: Run) -> str:
    """The name under which the place of a run's job file is kept."""
    return f"job_file:{run.id}"
