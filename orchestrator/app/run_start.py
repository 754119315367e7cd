"""What a run needs to know of its job, and refuses of it, before anything is read or sent."""

from __future__ import annotations

from orchestrator.config import Config
from orchestrator.core.errors import SpecError
from orchestrator.engine.runs import JobIdentity
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import input_identity
from orchestrator.job.spec import FREE_TO_CHANGE, Job

__all__ = ["job_identity", "refuse_unbounded"]


def job_identity(job: Job, config: Config) -> JobIdentity:
    """What decides which run a job resumes; reads the ends of the input files."""
    return JobIdentity(
        job=job.name,
        spec=job.to_store(),
        fingerprint=job.fingerprint(),
        input_identity=input_identity(job),
        budget_pusd=job.budget_pusd,
        deadline_s=job.deadline,
        simulated=config.simulated,
        free_to_change=FREE_TO_CHANGE,
    )


def refuse_unbounded(job: Job, renderer: Renderer, config: Config) -> None:
    """Raises ``SpecError`` if a budget applies, and a request of the job could cost anything."""
    own, shared = job.budget, config.budget
    if renderer.carries_requests or "max_output_tokens" in job.request:
        return
    if shared.cap_output_tokens is not None or (own is not None and own.usd_per_request is not None):
        return
    whose = "job" if own is not None else "config"
    if own is None and shared.usd_per_day is None and shared.usd_per_month is None:
        return
    raise SpecError(
        f"the {whose} has a budget, but the requests have no max_output_tokens, so one of them could cost anything",
        where=f"{job.source}: request" if job.source is not None else None,
        hint="add request.max_output_tokens, or let the config do so for every job: budget.cap_output_tokens",
    )
