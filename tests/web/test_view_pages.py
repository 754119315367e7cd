"""What the pages show: figures that equal those of the commands, lists that keep their filter, empty states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.app.api import Orchestrator
from orchestrator.core.states import RunState, State
from orchestrator.report.costs import costs_object
from orchestrator.report.export import jsonl_line
from orchestrator.report.request_history import history_object
from orchestrator.report.summary import summary_object
from tests.stores.builders import NOW, Harness, a_run, an_unknown_charge

from .conftest import SPEC, fill, visitor

pytestmark = pytest.mark.anyio


async def object_of(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def page_of(client: httpx.AsyncClient, path: str) -> str:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text
    return reply.text


async def test_the_figures_of_a_run_are_those_of_status(
    harness: Harness, client: httpx.AsyncClient, database: Path
) -> None:
    await fill(harness)
    doubted = (await harness.add(1, 6))[-1]
    await harness.lose(doubted)
    async with Orchestrator(database=database) as orchestrator:
        expected = summary_object(await orchestrator.status("demo"), str(database))
    for path in ("/run/demo.json", "/run/demo/costs.json"):
        assert (await object_of(client, path))["summary"] == json.loads(json.dumps(expected))
    shown = (await object_of(client, "/runs.json"))["runs"][0]
    assert {name: shown[name] for name in expected} == json.loads(json.dumps(expected))
    assert sum(part["requests"] for part in shown["bar"]) == expected["requests"]["total"]


@pytest.mark.parametrize("by", ["", "model", "state,day", "tier,stage", "metadata.team"])
async def test_the_costs_of_a_run_are_those_of_the_command(
    harness: Harness, client: httpx.AsyncClient, database: Path, by: str
) -> None:
    await fill(harness)
    groups = (by or "model,tier").split(",")
    async with Orchestrator(database=database) as orchestrator:
        expected = costs_object(await orchestrator.costs("demo", groups), groups)
    shown = await object_of(client, f"/run/demo/costs.json?by={by}")
    assert shown["costs"] == json.loads(json.dumps(expected))
    assert shown["costs"]["total"]["cost_usd"] == shown["summary"]["cost_usd"]
    assert expected["total"]["cost_usd"] in await page_of(client, f"/run/demo/costs?by={by}")


async def test_costs_follow_what_is_charged_meanwhile(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    before = await object_of(client, "/run/demo/costs.json")
    await harness.succeed((await harness.add(1, 6))[-1])
    after = await object_of(client, "/run/demo/costs.json")
    assert int(after["costs"]["total"]["responses"]) == int(before["costs"]["total"]["responses"]) + 1
    assert after["costs"]["total"]["cost_usd"] == after["summary"]["cost_usd"]


async def test_a_row_is_shown_as_the_command_shows_it(
    harness: Harness, client: httpx.AsyncClient, database: Path
) -> None:
    await fill(harness)
    async with Orchestrator(database=database) as orchestrator:
        for key in ("row-0", "row-1", "row-2", "row-5"):
            history = await orchestrator.show("demo", key)
            sent = await orchestrator.request_sent("demo", key)
            shown = await object_of(client, f"/run/demo/row/{key}.json")
            assert shown["history"] == json.loads(json.dumps(history_object(history, sent)))
            assert key in await page_of(client, f"/run/demo/row/{key}")


async def test_a_charge_is_explained_to_the_last_digit(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    [attempt] = (await object_of(client, "/run/demo/row/row-2.json"))["attempts"]
    assert attempt["parts"]
    assert attempt["sum_usd"] is not None


async def test_rows_keep_their_filter_from_page_to_page(harness: Harness, client: httpx.AsyncClient) -> None:
    rows = await harness.add(120)
    for row in rows[::2]:
        await harness.fail(row, code="refusal")
    keys, path = [], "/run/demo/rows?state=failed&code=refusal"
    while path:
        page = await client.get(path.replace("rows?", "rows.json?"))
        keys += [row["key"] for row in page.json()["rows"]]
        later = page.json()["later"]
        assert later is None or ("state=failed" in later and "code=refusal" in later)
        path = f"/run/demo/rows{later}" if later else ""
    assert keys == [f"row-{n}" for n in range(0, 120, 2)]


async def test_next_and_previous_follow_the_filter(harness: Harness, client: httpx.AsyncClient) -> None:
    rows = await harness.add(9)
    for row in (rows[1], rows[4], rows[8]):
        await harness.fail(row, code="refusal")
    page = await object_of(client, "/run/demo/rows.json?state=failed")
    path, seen = page["rows"][0]["page"], []
    while path:
        shown = await object_of(client, path.replace("?", ".json?", 1))
        seen.append(shown["history"]["key"])
        assert "state=failed" in shown["list"]
        path = shown["next"]["page"] if shown["next"] else ""
    assert seen == ["row-1", "row-4", "row-8"]
    assert shown["previous"]["key"] == "row-4"
    assert "state=failed" in shown["previous"]["page"]


async def test_a_key_that_is_searched_for_is_found_at_once(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    page = await object_of(client, "/run/demo/rows.json?q=row-3")
    assert page["named"]["key"] == "row-3"
    assert [row["key"] for row in page["rows"]] == ["row-3"]
    assert (await client.get(page["named"]["page"])).status_code == 200
    answers = await object_of(client, "/run/demo/rows.json?q=the+ANSWER+to")
    assert [row["key"] for row in answers["rows"]] == ["row-2", "row-3", "row-4"]


@pytest.mark.parametrize("query", ["", "state=failed", "q=the+ANSWER+to", "state=settled&code=refusal", "flag=check"])
async def test_a_list_is_downloaded_as_the_export_writes_it(
    harness: Harness, client: httpx.AsyncClient, database: Path, query: str
) -> None:
    await fill(harness)
    await harness.store.set_flag((await harness.request("row-3")).id, "check", "", NOW)
    listed = await object_of(client, f"/run/demo/rows.json?{query}")
    reply = await client.get(listed["download"])
    assert reply.headers["content-disposition"] == 'attachment; filename="demo.jsonl"'
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["key"] for line in lines] == [row["key"] for row in listed["rows"]]
    async with Orchestrator(database=database) as orchestrator:
        records = [each async for each in orchestrator.results("demo", states=list(State))]
    assert reply.content == b"".join(
        jsonl_line(each) for each in records if each.key in {line["key"] for line in lines}
    )


async def test_rows_are_sorted_by_what_they_cost(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    for order in ("cost", "latency", "tokens"):
        rows = (await object_of(client, f"/run/demo/rows.json?sort={order}"))["rows"]
        assert len(rows) == 5  # one was never sent
    assert [row["usage"] is None for row in rows] == [False] * 4 + [True]
    assert (await object_of(client, "/run/demo/rows.json?sort=cost"))["rows"][0]["key"] == "row-0"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/run/none", 404),
        ("/run/none.json", 404),
        ("/run/~99", 404),
        ("/run/demo/row/none", 404),
        ("/run/demo/row", 404),
        ("/run/demo/row?request=77777", 404),
        ("/run/demo/rows?state=odd", 400),
        ("/run/demo/rows?after=-1", 400),
        ("/run/demo/rows?after=99999999999999999999", 400),
        ("/run/demo/rows?sort=key", 400),
        ("/run/demo/costs?by=nothing", 400),
        ("/compare?a=none", 404),
        ("/compare?a=demo&b=none", 404),
        ("/compare?a=demo&b=demo&only=odd", 400),
        ("/dataset?name=none", 404),
        ("/dataset", 404),
        ("/static/../view.py", 404),
        ("/static/none.css", 404),
    ],
)
async def test_a_wrong_address_says_what_is_wrong(client: httpx.AsyncClient, path: str, status: int) -> None:
    reply = await client.get(path)
    assert reply.status_code == status
    assert "Traceback" not in reply.text


async def test_a_run_without_rows_says_so(client: httpx.AsyncClient) -> None:
    assert "no rows yet" in await page_of(client, "/run/demo")
    assert "This run has no rows" in await page_of(client, "/run/demo/rows")
    assert "No row fits this filter" in await page_of(client, "/run/demo/rows?state=failed")
    assert "Nothing was charged" in await page_of(client, "/run/demo/costs")
    assert "no other run" in await page_of(client, "/compare?a=demo")
    assert (await client.get("/run/demo/stages")).status_code == 200


async def test_a_run_in_doubt_says_what_to_do(harness: Harness, client: httpx.AsyncClient) -> None:
    for row in await harness.add(2):
        await harness.lose(row)
    await harness.store.set_run_state(harness.run.id, RunState.HALTED, "in_doubt", NOW)
    page = await page_of(client, "/run/demo")
    assert "--resolve-in-doubt resend" in page
    assert "in doubt" in page


async def test_an_unknown_cost_is_no_zero(harness: Harness, client: httpx.AsyncClient) -> None:
    [row] = await harness.add(1)
    await harness.fail(row, charge=an_unknown_charge(5_000_000_000))
    shown = (await object_of(client, "/run/demo/rows.json"))["rows"][0]
    assert (shown["cost_usd"], shown["cost_upper_bound_usd"]) == (None, "0.005")
    assert "≤ $0.005" in await page_of(client, "/run/demo/rows")
    assert "at most $0.005" in await page_of(client, "/run/demo/row/row-0")


async def test_failures_are_counted_by_code_and_lead_to_their_rows(
    harness: Harness, client: httpx.AsyncClient
) -> None:
    for number, row in enumerate(await harness.add(5)):
        await harness.fail(row, code="refusal" if number % 2 else "server_error")
    failures = (await object_of(client, "/run/demo.json"))["failures"]
    assert [(each["code"], each["rows"]) for each in failures] == [("server_error", 3), ("refusal", 2)]
    for each in failures:
        rows = await object_of(client, each["page"].replace("rows?", "rows.json?"))
        assert len(rows["rows"]) == each["rows"]
    for part in (await object_of(client, "/run/demo.json"))["bar"]:
        rows = await object_of(client, part["page"].replace("rows?", "rows.json?"))
        assert len(rows["rows"]) == part["requests"]


async def test_two_runs_are_compared_word_by_word(harness: Harness, client: httpx.AsyncClient) -> None:
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other", spec_json=SPEC)))
    for [one], [two] in [(await harness.add(1), await other.add(1))]:
        await harness.succeed(one, output_text="the quick brown fox")
        await other.succeed(two, output_text="the slow brown fox")
    assert "other" in await page_of(client, "/compare?a=demo")
    page = await page_of(client, "/compare?a=demo&b=other")
    assert "<del>quick </del>" in page
    assert "<ins>slow </ins>" in page
    shown = await object_of(client, "/compare.json?a=demo&b=other&only=answers")
    assert [pair["key"] for pair in shown["rows"]] == ["row-0"]
    for side in ("a", "b"):
        assert (await client.get(shown["rows"][0][side]["page"])).status_code == 200


async def test_stages_are_counted_in_the_order_of_the_job(harness: Harness, database: Path) -> None:
    spec = {
        "name": "digest",
        "stages": {"read": {"from": "input", "request": {}}, "merge": {"from": "read"}, "side": {"from": "input"}},
    }
    run = await harness.store.create_run(a_run("staged", spec_json=json.dumps(spec)))
    staged = Harness(harness.store, harness.reader, run)
    await staged.add(2)
    async with visitor(database) as client:
        shown = await object_of(client, "/run/staged/stages.json")
        assert [(each["name"], each["from"], each["depth"]) for each in shown["stages"]] == [
            ("read", "input", 0),
            ("merge", "read", 1),
            ("side", "input", 0),
        ]
        assert "merge" in await page_of(client, "/run/staged/stages")


async def test_many_runs_come_in_pages(harness: Harness, client: httpx.AsyncClient) -> None:
    for number in range(31):
        await harness.store.create_run(a_run(f"night-{number}"))
    first = await object_of(client, "/runs.json")
    older = await object_of(client, f"/runs.json{first['older']}")
    names = [each["run"] for each in (*first["runs"], *older["runs"])]
    assert names == [*(f"night-{number}" for number in range(30, -1, -1)), "demo"]
    assert older["older"] is None


async def test_samples_are_charted(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    await harness.store.add_pulse(harness.run.id, NOW)
    await harness.flush()
    shown = await object_of(client, "/run/demo.json")
    assert [pulse["settled"] for pulse in shown["pulses"]] == [shown["settled"]]
    assert "data-pulses" in await page_of(client, "/run/demo")


async def test_rows_of_every_state_are_shown(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    page = await object_of(client, "/run/demo/rows.json")
    assert {row["state"] for row in page["rows"]} == {
        State.FAILED.value,
        State.SUBMITTED.value,
        State.SUCCEEDED.value,
        State.PENDING.value,
    }
    assert page["total"] == 6
