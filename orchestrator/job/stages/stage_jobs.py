"""Each stage as a job of its own: what makes, checks and judges requests need not know of stages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.core.errors import UsageError
from orchestrator.job.requests.local_files import LocalFiles, NamedFiles
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import Job, RetrySection
from orchestrator.job.stages.stage_renderer import StageRenderer
from orchestrator.job.stages.stage_section import StageSection

__all__ = ["renderer_of", "requesting_stages", "stage_job", "stages_until"]


def requesting_stages(job: Job) -> dict[str, StageSection]:
    """The stages of a job that make requests, in their order."""
    return {name: section for name, section in (job.stages or {}).items() if section.request is not None}


def stages_until(job: Job, stage: str) -> list[str]:
    """A stage with those that its rows are made of, in their order; raises ``UsageError`` if it asks nothing."""
    asking = requesting_stages(job)
    if stage not in asking:
        known = f"its stages that ask: {', '.join(asking)}" if asking else "a job without stages has only one"
        raise UsageError(f"job {job.name!r} has no stage {stage!r} that asks anything", hint=known)
    stages, found = job.stages or {}, [stage]
    while (before := stages[found[0]].from_) in stages:
        found.insert(0, before)
    return found


def stage_job(job: Job, stage: str) -> Job:
    """The job whose requests are those of a stage; the job itself if it has no stages."""
    if job.stages is None:
        return job
    return _with(job, job.stages[stage], job.stages[stage].request or {})


def renderer_of(
    job: Job,
    stage: str,
    *,
    may_be_unstored: bool = False,
    files: LocalFiles | NamedFiles | None = None,
    private: Iterable[Path] = (),
) -> Renderer:
    """The renderer of a stage, or of a job without stages; raises ``SpecError`` as ``Renderer`` does."""
    files = files or LocalFiles(job.files_folder, never=private)
    if job.stages is None:
        return Renderer(job, may_be_unstored=may_be_unstored, files=files)
    section = job.stages[stage]
    merging = None
    if section.merge is not None:
        merging = _with(job, section, {**(section.request or {}), **section.merge})
    return StageRenderer(stage_job(job, stage), merging, may_be_unstored=may_be_unstored, files=files)


def _with(job: Job, section: StageSection, request: dict[str, Any]) -> Job:
    given = {
        name: value
        for name in ("duplicates", "reuse", "reuse_max_age", "prompt_cache", "lane", "max_turns")
        if (value := getattr(section, name)) is not None
    }
    return job.model_copy(
        update={
            **given,
            "stages": None,
            "request": request,
            "on_incomplete": section.on_incomplete,
            "on_invalid": section.on_invalid,
            "handlers": section.handlers,
            "retry": job.retry if section.attempts is None else RetrySection(attempts=section.attempts),
        }
    )
