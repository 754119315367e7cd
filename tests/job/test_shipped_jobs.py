from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.model import NewRequest, PlanMark
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job, load_job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.job.stages.planned_rows import plan_stages
from orchestrator.job.stages.stage_jobs import renderer_of

REPOSITORY = Path(__file__).parent.parent.parent
JOBS = {"summarise": 1863, "classify": 60, "extract": 1863, "interviews": 24, "research": 6, "tools": 24}


def requests(job: Job) -> list[NewRequest]:
    return [
        row for batch in plan(job, Renderer(job), start=PlanMark(position=0, complete=False)) for row in batch.rows
    ]


def test_every_job_is_tested() -> None:
    assert {path.stem for path in (REPOSITORY / "jobs").glob("*.yaml")} == JOBS.keys() | {"press-digest"}


def test_the_pipeline_splits_speeches_and_asks_of_each_part() -> None:
    job = load_job(REPOSITORY / "jobs/press-digest.yaml", limit=12)
    batches = plan_stages(job, Pipeline(job), start=PlanMark(position=0, complete=False))
    rows = [row for batch in batches for row in batch.rows]
    assert {row.stage for row in rows} == {"facts"}
    assert len({row.key for row in rows}) == len(rows) > 12
    facts = renderer_of(job, "facts")
    assert all("State of the Union" in facts.render(row.row, where=row.where)["input"] for row in rows)


@pytest.mark.parametrize("name", JOBS)
def test_each_row_becomes_a_request(name: str) -> None:
    job = load_job(REPOSITORY / f"jobs/{name}.yaml")
    rows = requests(job)
    assert len(rows) == JOBS[name]
    assert len({row.key for row in rows}) == len(rows)
    renderer = Renderer(job)
    for row in rows:
        fields = renderer.render(row.row, where=row.where)
        assert fields["model"]
        assert len(fields["input"]) > 20
    assert job.warnings() == []
    assert job.output_path
    assert job.output_path.parent == REPOSITORY / "results"


def test_the_demo_is_as_promised() -> None:
    job = load_job(REPOSITORY / "jobs/summarise.yaml")
    assert job.name == "summarise-speeches"
    assert job.budget
    assert job.budget.pusd == 5 * 10**12
    assert (job.request["max_output_tokens"], job.retry.attempts) == (300, 5)


def test_the_data_is_described() -> None:
    note = (REPOSITORY / "jobs/data/README.md").read_text()
    files = {path.name for path in (REPOSITORY / "jobs/data").iterdir()} - {"README.md"}
    assert all(f"`{name}`" in note for name in files)


def test_the_categories_of_the_messages_are_those_that_the_job_names() -> None:
    job = load_job(REPOSITORY / "jobs/classify.yaml", overrides={"request.input": "{{ expected }}"})
    renderer = Renderer(job)
    expected = {renderer.render(row.row, where="")["input"] for row in requests(job)}
    instructions = job.request["instructions"]
    assert len(expected) == 7
    assert all(category in instructions for category in expected)
