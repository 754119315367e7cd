"""What does not cover a job with stages says so, and says what does."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import Config, Orchestrator, load_job
from orchestrator.core.errors import UsageError

pytestmark = pytest.mark.anyio

JOB = Path(__file__).parents[2] / "jobs/press-digest.yaml"


async def test_a_dry_run_and_an_estimate_are_refused_with_what_helps(tmp_path: Path) -> None:
    job = load_job(JOB)
    async with Orchestrator(Config(), database=tmp_path / "runs.db") as orchestrator:
        for what, call in (("a dry run", orchestrator.dry_run), ("an estimate", orchestrator.estimate)):
            with pytest.raises(UsageError, match=f"{what} does not cover a job with stages") as refused:
                await call(job)
            assert "--sandbox" in (refused.value.hint or "")
