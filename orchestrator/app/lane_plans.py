"""Which lanes a job may take at a provider, and what they cost there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from orchestrator.config import Config
from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.engine.tasks.lane_chooser import LanePlan
from orchestrator.job.requests.expressions import is_template
from orchestrator.job.spec import Job
from orchestrator.job.stages.stage_jobs import stage_job

__all__ = ["lane_plans", "lane_prices", "offered_lanes"]

_OPENAI = "api.openai.com"
# What batches cost beside the standard price (responses API, "Batch").
_BATCH_PRICE = 0.5


def lane_plans(config: Config, job: Job, stages: Sequence[str]) -> dict[str, LanePlan]:
    """The plan of each stage; ``stages`` are in the order in which they are sent, the last one first."""
    prices = lane_prices(config)
    plans = {}
    for left, name in enumerate(stages, start=1):
        of_stage = stage_job(job, name)
        plans[name] = LanePlan(
            asked=_asked(config, of_stage),
            model=_model(of_stage),
            offered=offered_lanes(config, of_stage),
            prices=prices,
            stages_left=left,
        )
    return plans


def _asked(config: Config, job: Job) -> str:
    """The lane that the job names; llama.cpp has no background mode, so there calls are held."""
    return Lane.SYNC if config.provider.local_model and job.lane == "background" else job.lane


def lane_prices(config: Config) -> Mapping[Lane, float]:
    """What tokens cost in each lane that ``auto`` may choose, beside the standard price."""
    factors = config.price_rules().windows
    windows = {lane: float(factors[window]) for lane, (window, _) in WINDOWS.items() if window in factors}
    return {Lane.BACKGROUND: 1.0, Lane.BATCH: _BATCH_PRICE, **windows}


def offered_lanes(config: Config, job: Job) -> tuple[Lane, ...]:
    """The cheaper lanes that a job may take: none with turns, which wait for each other, or where all is free."""
    if job.handlers or job.chain is not None or config.is_free:
        return ()
    models, is_openai = config.lanes.windows.models, _is_openai(config)
    takes_windows = is_openai if models is None else _model(job) in models
    return (*(WINDOWS if takes_windows else ()), *((Lane.BATCH,) if is_openai else ()))


def _is_openai(config: Config) -> bool:
    """Whether completion windows are known there; another server could accept the field and ignore it."""
    host = urlsplit(config.provider.base_url).hostname or ""
    return config.simulated or host == _OPENAI or host.endswith(f".{_OPENAI}")


def _model(job: Job) -> str:
    model = job.request.get("model")
    return model if isinstance(model, str) and not is_template(model) else ""
