"""Runs that several worker processes share: which jobs can be split into shards, and what the workers agree on."""

from __future__ import annotations

import json

from orchestrator.config import Config
from orchestrator.core.errors import RunBusy, UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.spec import Job
from orchestrator.stores.base import LearnedReader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.shards import SHARD_ROWS

__all__ = ["RunSplit", "name_of_split", "refuse_split", "store_split", "stored_split", "worker_config"]


@fast_dataclass(kw_only=False)
class RunSplit:
    """How a run is split: the rows of a shard, and how many workers share its limits."""

    workers: int
    rows: int = SHARD_ROWS


def refuse_split(job: Job, config: Config) -> None:
    """Raise ``UsageError`` if several processes cannot work on a run of this job."""
    cannot = {
        "stages": job.stages is not None,
        "increments": job.increments is not None,
        "chain": job.chain is not None,
        "stream": job.stream,
        f"lane: {job.lane}": job.lane != "background",
        "reuse: same-request": job.reuse == "same-request",
    }
    found = [name for name, present in cannot.items() if present]
    if found:
        raise UsageError(
            f"several workers cannot share a job with {', '.join(found)}",
            hint="run it without --workers: one process sends more than a thousand requests a second",
        )
    if config.webhooks is not None:
        raise UsageError(
            "several workers cannot share the events of the provider",
            hint="remove `webhooks` from the config, or run the job without --workers",
        )
    if len(config.endpoints) > 1:
        raise UsageError(
            "several workers cannot share several endpoints",
            hint="run the job without --workers: one process sends to all `providers` of the config",
        )
    if config.provider.local_model is not None:
        raise UsageError(
            "several workers cannot share a local model that one of them starts",
            hint="run the job without --workers, or start the server yourself and name it in provider.base_url",
        )


def worker_config(config: Config, workers: int) -> Config:
    """The config of one of several workers: its share of each limit, so that all together keep to the whole."""
    limits = config.limits
    shares = {
        name: max(1, getattr(limits, name) // workers)
        for name in ("requests_per_minute", "tokens_per_minute", "polls_per_minute", "max_in_flight")
        if getattr(limits, name) is not None
    }
    return config.model_copy(update={"limits": limits.model_copy(update=shares)})


async def store_split(store: Store, run: Run, split: RunSplit) -> None:
    """Keep how a run is split, for workers that are started elsewhere."""
    kept = json.dumps({"workers": split.workers, "rows": split.rows})
    await store.remember(name_of_split(run.id), kept.encode())


async def stored_split(reader: LearnedReader, run: Run) -> RunSplit:
    """How a run was split; raises ``RunBusy`` if it has not been."""
    kept = await reader.recall(name_of_split(run.id))
    if kept is None:
        raise RunBusy(
            f"run {run.name!r} is not split for workers",
            hint="orchestrator run JOB --workers N plans it, and starts workers",
        )
    return RunSplit(**json.loads(kept))


def name_of_split(run_id: int) -> str:
    """The name under which is kept how a run is split."""
    return f"split:{run_id}"
