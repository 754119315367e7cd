"""An estimate compares the lanes: what each costs, when it is done, and what it may come to."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, load_job
from orchestrator.app.connections import lanes_snapshot
from orchestrator.app.forecast.estimates import LaneForecast
from orchestrator.app.forecast.lane_forecasts import lanes_text
from orchestrator.app.forecast.text import forecast_object
from orchestrator.config import Config, sandbox_config
from orchestrator.core.lanes import Lane
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.stores.sqlite.backend import SqliteBackend

pytestmark = pytest.mark.anyio


async def lanes(folder: Path, *, rows: int = 100, config: Config | None = None, **job: Any) -> list[dict[str, Any]]:
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {n}, "text": "row {n}"}}\n' for n in range(rows)))
    request = {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 100}
    whole = {"name": "a", "input": {"path": "rows.jsonl", "key": "id"}, "request": request, **job}
    (folder / "job.yaml").write_text(json.dumps(whole))
    async with Orchestrator(config or sandbox_config(), database=folder / "runs.db") as orchestrator:
        found = forecast_object(await orchestrator.estimate(load_job(folder / "job.yaml")))
    return list(found.get("lanes", []))


def costs(found: list[dict[str, Any]], name: str = "cost_usd") -> dict[str, Decimal]:
    return {each["lane"]: Decimal(each[name]) for each in found if each[name] is not None}


async def test_each_lane_has_its_price(tmp_path: Path) -> None:
    found = costs(await lanes(tmp_path, lane="auto", deadline="30h"))
    standard = found["background"]
    assert {name: cost / standard for name, cost in found.items()} == {
        "batch": Decimal("0.5"),
        "window-8h": Decimal("0.6"),
        "window-2h": Decimal("0.7"),
        "background": 1,
    }


async def test_what_must_be_hurried_costs_the_standard_price(tmp_path: Path) -> None:
    found = await lanes(tmp_path, lane="auto", deadline="30h")
    standard = costs(found)["background"]
    assert set(costs(found, "all_hurried_usd").values()) == {standard}
    half = costs(found, "half_hurried_usd")["batch"]
    assert half == (costs(found)["batch"] + standard) / 2


@pytest.mark.parametrize(
    ("job", "chosen"),
    [
        ({"lane": "auto", "deadline": "30h"}, "batch"),
        ({"lane": "auto", "deadline": "20m"}, "background"),
        ({"lane": "auto"}, "background"),
        ({"lane": "window-2h"}, "window-2h"),
        ({"deadline": "30h"}, "background"),
    ],
)
async def test_the_lane_that_the_run_would_begin_with_is_marked(
    tmp_path: Path, job: dict[str, Any], chosen: str
) -> None:
    found = await lanes(tmp_path, **job)
    assert [each["lane"] for each in found if each["chosen"]] == [chosen]
    assert all(each["why"] for each in found if each["chosen"]) == (job.get("lane") == "auto")


async def test_the_cost_of_a_job_is_that_of_the_lane_it_names(tmp_path: Path) -> None:
    high = {}
    for lane in ("background", "window-8h", "batch"):
        await lanes(tmp_path, lane=lane)
        async with Orchestrator(sandbox_config(), database=tmp_path / "runs.db") as orchestrator:
            cost = (await orchestrator.estimate(load_job(tmp_path / "job.yaml"))).estimate.cost
        assert cost is not None
        assert cost.high is not None
        high[lane] = cost.high
    assert (high["window-8h"] * 10, high["batch"] * 2) == (high["background"] * 6, high["background"])


async def test_what_was_learned_says_when_it_is_done(tmp_path: Path) -> None:
    config, memory = sandbox_config(), LaneMemory()
    memory.note_pace("gpt-5-mini", 0.5)
    memory.note_duration("gpt-5-mini", Lane.WINDOW_2H, 600.0)
    memory.note_refusal("gpt-5-mini", Lane.WINDOW_8H)
    async with SqliteBackend(tmp_path / "runs.db").open_store() as store:
        await store.remember(lanes_snapshot(config), memory.dump())
    found = await lanes(tmp_path, lane="auto", deadline="30h", config=config)
    assert {each["lane"]: each["ends_in_s"] for each in found} == {
        "batch": 86_400,
        "window-2h": 600,
        "background": 200,
    }


async def test_a_job_without_use_for_a_slower_lane_shows_none(tmp_path: Path) -> None:
    assert await lanes(tmp_path) == []


def test_the_line_of_a_lane_says_what_it_may_come_to() -> None:
    lane = LaneForecast(
        lane=Lane.BATCH,
        cost=None,
        ends_in_s=7_200.0,
        chance=0.5,
        half_pusd=72 * 10**12,
        all_pusd=96 * 10**12,
        chosen=True,
        why="it is cheap",
    )
    line, why = lanes_text((lane,))
    assert line.startswith("→ batch  no known price, done in about 2 h, 50% likely to be done in time, ")
    assert line.endswith("$72.00 if half must be hurried, $96.00 if all")
    assert why == "it is cheap"
