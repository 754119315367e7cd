"""Whatever the answers are, what a pipeline asks lies within the ranges that were foreseen without them."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from orchestrator.app.forecast.foresight import Expected, Foreseen, Foresight
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.policy.pricing.tokens import count_tokens, token_counter

MOST_TOKENS = 60
WORDS = ("fire", "river", "stone", "cloud", "amber", "north")

FORMAT = {
    "type": "json_schema",
    "name": "found",
    "schema": {
        "type": "object",
        "properties": {
            "names": {"type": "array", "items": {"type": "string"}},
            "mark": {"type": "integer"},
            "kind": {"enum": ["a", "b", "c"]},
        },
        "required": ["names", "mark", "kind"],
        "additionalProperties": False,
    },
    "strict": True,
}


def random_answer(rng: random.Random, *, typed: bool) -> str:
    """An answer of at most ``MOST_TOKENS`` tokens."""
    while True:
        names = [rng.choice(WORDS) for _ in range(rng.randint(0, 8))]
        text = " ".join(names) or rng.choice(WORDS)
        if typed:
            text = json.dumps({"names": names, "mark": rng.randint(0, 5), "kind": rng.choice("abc")})
        if count_tokens(text) <= MOST_TOKENS:
            return text


def request(text: str, *, typed: bool = False) -> dict[str, Any]:
    fields = {"model": "gpt-5-mini", "input": text, "max_output_tokens": MOST_TOKENS}
    return {**fields, "text": {"format": FORMAT}} if typed else fields


def random_stage(rng: random.Random, before: str, *, typed: bool, groups: bool) -> dict[str, Any]:
    """A stage that reads the answer of the stage before it in one of the ways that there are."""
    answer = f"{before}.mark" if typed else f"{before} | length"
    names = f"{before}.names" if typed else f"{before}.split(' ')"
    ways: list[dict[str, Any]] = [
        {},
        {"where": f"{{{{ {answer} > 2 }}}}"},
        {"where": "{{ size > 1 }}"},
        {"expand": {"list": f"{{{{ {names} }}}}", "at_most": 70}},
        {"expand": {"text": f"{{{{ {before} | string }}}}", "max_tokens": 9, "overlap": 2}},
        {"group_by": "size"},
        {"group_by": []},
        {"group_by": ["size", "kind"], "where": f"{{{{ {answer} > 1 }}}}"},
        {"group_by": [], "max_input_tokens": 200, "merge": {"input": "{% for row in rows %}{{ row }}{% endfor %}"}},
    ]
    if groups:
        ways.append({"group_by": "parent"})
    way = rng.choice(ways)
    return {"from": before, **way}


def text_of(stage: dict[str, Any], before: str) -> str:
    if "group_by" in stage:
        return f"{{% for row in rows %}}{{{{ row.{before} }}}} {{% endfor %}}"
    made = {"list": "{{ item }}", "text": "{{ part }}"}
    expand = stage.get("expand") or {}
    return next((text for name, text in made.items() if name in expand), f"{{{{ {before} }}}}")


def random_stages(rng: random.Random) -> dict[str, Any]:
    """Two to four stages in a row; the first one reads the input."""
    stages: dict[str, Any] = {"one": {"from": "input", "request": request("{{ text }}", typed=rng.random() < 0.5)}}
    has_parent = False
    if rng.random() < 0.5:
        stages["one"]["expand"] = {"list": "{{ parts }}"}
        has_parent = True
    before = "one"
    for name in ("two", "three", "four")[: rng.randint(1, 3)]:
        typed = "text" in stages[before]["request"]
        stage = random_stage(rng, before, typed=typed, groups=has_parent)
        tree = "max_input_tokens" in stage
        stage["request"] = request(text_of(stage, before), typed=not tree and rng.random() < 0.5)
        has_parent = "expand" in stage or (has_parent and "group_by" not in stage)
        stages[name] = stage
        before = name
    return stages


def random_rows(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "text": " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9))),
            "parts": [rng.choice(WORDS) for _ in range(rng.randint(0, 3))],
            "size": rng.randint(1, 3),
            "kind": rng.choice("xy"),
        }
        for _ in range(rng.randint(1, 6))
    ]


def all_foreseen(
    pipeline: Pipeline, rows: list[dict[str, Any]], rng: random.Random | None
) -> tuple[Foresight, dict[str, list[Foreseen]]]:
    """Everything that is foreseen: with answers by chance, or if no answer is known."""
    foresight, found = Foresight(pipeline, token_counter()), defaultdict[str, list[Foreseen]](list)
    for number, row in enumerate(rows):
        foresight.of_input(f"r{number}", row, f"rows.jsonl:{number + 1}")
    for plan in pipeline.requesting:
        typed = "text" in (plan.section.request or {})
        foresight.close(plan.name)
        while taken := foresight.take(plan.name):
            found[plan.name] += taken
            for each in taken:
                if each.failure is not None:
                    foresight.settle(each, Expected(failed=True))
                elif rng is None:
                    foresight.settle(each, Expected(most_tokens=MOST_TOKENS))
                else:
                    foresight.settle(each, Expected(text=random_answer(rng, typed=typed)))
    return foresight, found


@pytest.mark.parametrize("seed", range(40))
def test_what_any_answers_make_lies_within_what_was_foreseen(seed: int) -> None:
    rng = random.Random(seed)
    stages, rows = random_stages(rng), random_rows(rng)
    pipeline = Pipeline(Job.model_validate({"name": "job", "input": {"path": "rows.jsonl"}, "stages": stages}))
    _, ranges = all_foreseen(pipeline, rows, None)
    for _ in range(3):
        _, made = all_foreseen(pipeline, rows, rng)
        assert all(each.is_exact for foreseen in made.values() for each in foreseen if each.failure is None)
        # What fails is not sent, so it is no part of what a run asks.
        sent = {name: [each for each in foreseen if each.failure is None] for name, foreseen in made.items()}
        for name in stages:
            asked = len(sent.get(name, []))
            most = sum(each.most for each in ranges.get(name, []))
            assert asked <= most, (name, asked, most, stages)


@pytest.mark.parametrize("seed", range(20))
def test_no_request_is_foreseen_that_some_answers_would_not_make(seed: int) -> None:
    rng = random.Random(1_000 + seed)
    stages, rows = random_stages(rng), random_rows(rng)
    pipeline = Pipeline(Job.model_validate({"name": "job", "input": {"path": "rows.jsonl"}, "stages": stages}))
    _, ranges = all_foreseen(pipeline, rows, None)
    fewest = Counter[str]()
    for trial in range(6):
        _, made = all_foreseen(pipeline, rows, rng)
        for name in stages:
            asked = sum(each.failure is None for each in made.get(name, []))
            fewest[name] = asked if not trial else min(fewest[name], asked)
    for name in stages:
        least = sum(each.least for each in ranges.get(name, []) if each.failure is None)
        assert least <= fewest[name], (name, least, fewest[name], stages)
