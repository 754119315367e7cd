"""The picture of a job's stages: what each is made of, and what it asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.job.spec import Job, load_job
from orchestrator.report.diagram import diagram_mermaid, diagram_object, diagram_text


def asking(**more: Any) -> dict[str, Any]:
    return {"request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 100}, **more}


def a_job(**stages: dict[str, Any]) -> Job:
    return Job.model_validate({"name": "press", "input": {"path": "rows.jsonl"}, "stages": stages})


PRESS = a_job(
    parts={"from": "input", "expand": {"text": "{{ text }}", "max_tokens": 700}},
    facts={"from": "parts", "where": "{{ part | length > 9 }}", **asking()},
    names={"from": "facts", "where": "{{ facts != 'none' }}", "expand": {"list": "{{ facts }}"}, **asking()},
    brief={"from": "facts", "group_by": ["year", "place"], "missing": {"at_most": "20%"}, **asking()},
    digest={
        "from": "brief",
        "group_by": [],
        "missing": "any",
        "max_input_tokens": 4_000,
        "merge": {"input": "{{ rows }}"},
        **asking(),
    },
)


def test_a_tree_shows_each_stage_under_the_one_whose_rows_it_takes() -> None:
    assert diagram_text(PRESS) == (
        "press\n"
        "  input               rows.jsonl\n"
        "  └─ parts            expand text by 700 tokens\n"
        "     └─ facts         where; asks gpt-5-mini\n"
        "        ├─ names      where, then expand list; asks gpt-5-mini\n"
        "        └─ brief      group by year, place; asks gpt-5-mini; may lack 20% of its rows\n"
        "           └─ digest  one group of all; asks gpt-5-mini; may lack rows; in parts above 4,000 tokens"
    )


def test_a_mermaid_diagram_has_the_same_stages_and_ways() -> None:
    lines = diagram_mermaid(PRESS).splitlines()
    assert lines[:2] == ["flowchart LR", "  input[(input)]"]
    assert lines[2:7] == [
        '  parts(["parts"])',
        '  facts["facts<br/>gpt-5-mini"]',
        '  names["names<br/>gpt-5-mini"]',
        '  brief["brief<br/>gpt-5-mini"]',
        '  digest["digest<br/>gpt-5-mini"]',
    ]
    assert lines[7:] == [
        '  input -->|"expand text by 700 tokens"| parts',
        '  parts -->|"where"| facts',
        '  facts -->|"where, then expand list"| names',
        '  facts -->|"group by year, place; may lack 20% of its rows"| brief',
        '  brief -->|"one group of all; may lack rows; in parts above 4,000 tokens"| digest',
    ]


def test_the_page_on_pipelines_shows_the_diagram_of_the_example() -> None:
    root = Path(__file__).parents[2]
    example, page = load_job(root / "jobs/press-digest.yaml"), (root / "docs/how-to/pipelines.md").read_text()
    assert diagram_mermaid(example) in page
    # The path of the input is relative to the job.
    assert all(line in page for line in diagram_text(example).splitlines()[2:])


def test_words_of_mermaid_are_no_names_of_its_nodes() -> None:
    ends = a_job(end={"from": "input", **asking()}, last={"from": "end", **asking()})
    assert diagram_mermaid(ends).splitlines()[2:] == [
        '  end_["end<br/>gpt-5-mini"]',
        '  last["last<br/>gpt-5-mini"]',
        "  input --> end_",
        "  end_ --> last",
    ]


def test_a_model_that_rows_name_cannot_break_the_diagram() -> None:
    stage = {
        "from": "input",
        "request": {"model": '{{ "a|b" ~ model ~ "-a-name-that-is-very-long-indeed" }}', "input": "x"},
    }
    [line] = [line for line in diagram_mermaid(a_job(one=stage)).splitlines() if line.startswith("  one[")]
    assert line.count('"') == 2
    assert "|" not in line
    assert len(line) < 90


def test_a_job_without_stages_has_one() -> None:
    job = Job.model_validate(
        {"name": "plain", "input": {"path": "rows.jsonl"}, "request": {"model": "gpt-5-mini", "input": "x"}}
    )
    assert diagram_text(job) == "plain\n  input    rows.jsonl\n  └─ main  asks gpt-5-mini"
    assert diagram_object(job) == {
        "job": "plain",
        "stages": [{"name": "main", "from": "input", "makes": "", "asks": "gpt-5-mini", "notes": []}],
    }


def test_scripts_get_the_stages_in_their_order() -> None:
    found = diagram_object(PRESS)
    assert [each["name"] for each in found["stages"]] == ["parts", "facts", "names", "brief", "digest"]
    assert found["stages"][4] == {
        "name": "digest",
        "from": "brief",
        "makes": "one group of all",
        "asks": "gpt-5-mini",
        "notes": ["may lack rows", "in parts above 4,000 tokens"],
    }
