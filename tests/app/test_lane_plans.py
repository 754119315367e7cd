"""Which lanes a job may take depends on the server, the model, the prices and the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.lane_plans import lane_plans, lane_prices, offered_lanes
from orchestrator.config import Config, sandbox_config
from orchestrator.core.lanes import Lane
from orchestrator.job.spec import Job

JOB: dict[str, Any] = {"name": "a", "input": {"path": "a.jsonl"}, "request": {"model": "gpt-6.2-sol", "input": "x"}}
WINDOWS = (Lane.WINDOW_2H, Lane.WINDOW_8H)
ALL = (*WINDOWS, Lane.BATCH)
TOOL = {"type": "function", "name": "f", "parameters": {}}


def offered(config: dict[str, Any], **job: Any) -> tuple[Lane, ...]:
    return offered_lanes(Config.model_validate(config), Job.model_validate({**JOB, **job}))


def at(base_url: str) -> dict[str, Any]:
    return {"provider": {"base_url": base_url}}


@pytest.mark.parametrize(
    ("base_url", "lanes"),
    [
        ("https://api.openai.com/v1", ALL),
        ("https://eu.api.openai.com/v1", ALL),
        ("http://127.0.0.1:8000/v1", ()),
        # Names that only resemble OpenAI's.
        ("https://notapi.openai.com.example/v1", ()),
        ("https://api.openai.com.example/v1", ()),
        ("https://fakeapi.openai.com/v1", ()),
    ],
)
def test_windows_are_known_at_openai(base_url: str, lanes: tuple[Lane, ...]) -> None:
    assert offered(at(base_url)) == lanes
    assert offered_lanes(sandbox_config(), Job.model_validate(JOB)) == ALL


@pytest.mark.parametrize(("models", "lanes"), [(["gpt-6.2-sol"], WINDOWS), (["gpt-5"], ()), ([], ())])
def test_the_config_names_the_models_that_take_windows(models: list[str], lanes: tuple[Lane, ...]) -> None:
    config = {"lanes": {"windows": {"models": models}}}
    assert offered({**at("https://api.openai.com/v1"), **config}) == (*lanes, Lane.BATCH)
    assert offered({**at("http://127.0.0.1:8000/v1"), **config}) == lanes


def test_turns_and_free_servers_take_no_discount(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    assert offered({}, chain={"by": "talk"}) == ()
    assert offered({"prices": "free"}) == ()
    tools = {"request": {**JOB["request"], "tools": [TOOL]}, "handlers": {"f": "tools:f"}}
    assert offered({}, **tools) == ()


def test_prices_are_the_factors_of_the_price_list(tmp_path: Path) -> None:
    assert lane_prices(Config()) == {
        Lane.BACKGROUND: 1.0,
        Lane.WINDOW_2H: 0.7,
        Lane.WINDOW_8H: 0.6,
        Lane.BATCH: 0.5,
    }
    (tmp_path / "prices.yaml").write_text("windows: {2h: 0.5}\n")
    (tmp_path / "config.yaml").write_text("prices: prices.yaml\n")
    from orchestrator.config import load_config

    assert lane_prices(load_config(tmp_path / "config.yaml"))[Lane.WINDOW_2H] == 0.5


def test_a_row_passes_the_later_stages_too() -> None:
    request = JOB["request"]
    stages = {
        "one": {"from": "input", "request": request},
        "two": {"from": "one", "request": request, "lane": "sync"},
        "three": {"from": "two", "request": {**request, "model": "{{ model }}"}},
    }
    job = Job.model_validate({"name": "a", "input": {"path": "a.jsonl"}, "lane": "auto", "stages": stages})
    plans = lane_plans(Config(), job, ["three", "two", "one"])
    assert {name: plan.stages_left for name, plan in plans.items()} == {"three": 1, "two": 2, "one": 3}
    assert [plans[name].asked for name in stages] == ["auto", "sync", "auto"]
    assert [plans[name].model for name in stages] == ["gpt-6.2-sol", "gpt-6.2-sol", ""]
