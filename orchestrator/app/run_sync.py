"""``run_sync``: runs a job to its end, from a script or a notebook without ``await``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.app.api import Orchestrator

if TYPE_CHECKING:
    from orchestrator.app.run_results import Results
    from orchestrator.config import Config
    from orchestrator.job.spec import Job

__all__ = ["run_sync"]

_CHECK_S = 0.2


def run_sync(
    job: Job | Mapping[str, Any] | str | Path,
    *,
    rows: Any = None,
    config: Config | str | Path | None = None,
    database: str | Path | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Results:
    """Run a job, or resume it where it stopped, and return its results; ``job`` and ``config`` may be files.

    ``rows`` stands in for the job's input, see ``Job.with_rows``; the config ``"sandbox"`` is a rehearsal. Works with
    and without a running event loop. An interrupt stops the run cleanly, and the same call resumes it.
    """
    worker = _Worker(_job(job, rows), _config(config), database, name=name, progress=progress)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(_CHECK_S)
    except KeyboardInterrupt:
        worker.stop()
        worker.join()
        raise
    return worker.results()


class _Worker(threading.Thread):
    """A thread with an event loop of its own: that of a notebook is busy."""

    def __init__(
        self, job: Job, config: Config, database: str | Path | None, *, name: str | None, progress: bool
    ) -> None:
        super().__init__(name="orchestrator")
        self._job = job
        self._orchestrator = Orchestrator(config, database=database)
        self._run_name = name
        self._shows = progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._results: Results | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 – raised again in the thread that waits
            self._error = error

    def stop(self) -> None:
        """Stop the run soon; everything on disk stays resumable."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._orchestrator.stop)

    def results(self) -> Results:
        """What the run gave; raises what it raised."""
        if self._results is None:
            raise self._error or RuntimeError("the run ended without results")
        return self._results

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._orchestrator as orchestrator:
            async with _display(orchestrator) if self._shows else nullcontext():
                summary = await orchestrator.run(self._job, name=self._run_name)
            self._results = await orchestrator.collect(summary.name)


def _display(orchestrator: Orchestrator) -> Any:
    from orchestrator.report.display import Bar, displayed

    return displayed(lambda: orchestrator.progress, Bar(), now=time.time)


def _job(job: Job | Mapping[str, Any] | str | Path, rows: Any) -> Job:
    from orchestrator.job.spec import Job, load_job

    if isinstance(job, Mapping):
        given = {} if rows is None else {"input": {"path": "-"}}
        made = Job.model_validate({**given, **job})
    else:
        made = job if isinstance(job, Job) else load_job(job)
    return made if rows is None else made.with_rows(rows)


def _config(config: Config | str | Path | None) -> Config:
    from orchestrator.config import SANDBOX_CONFIG, Config, load_config, sandbox_config

    if isinstance(config, Config):
        return config
    return sandbox_config() if str(config) == SANDBOX_CONFIG else load_config(config)
