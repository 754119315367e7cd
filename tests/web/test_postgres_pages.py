"""The pages and the report of a database on a PostgreSQL server."""

from __future__ import annotations

import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.increments import Change, Changes
from orchestrator.web.run_report import ReportOptions, report_html, run_report
from tests.stores.builders import Harness, a_run, an_unknown_charge

from .conftest import SPEC, fill, visitor

pytestmark = [pytest.mark.anyio, pytest.mark.services]

PATHS = (
    "/",
    "/run/demo",
    "/run/demo/rows",
    "/run/demo/rows?state=failed&code=refusal",
    "/run/demo/rows?q=ANSWER+to+row-3",
    "/run/demo/rows?sort=cost",
    "/run/demo/rows?sort=latency&state=settled",
    "/run/demo/rows?sort=tokens&q=answer",
    "/run/demo/row/row-2",
    "/run/demo/row/row-7",
    "/run/demo/costs?by=model,state",
    "/run/demo/stages",
    "/dataset?name=reviews",
    "/compare?a=demo&b=second&only=answers",
    "/compare?a=demo&b=second&only=outcomes",
)


async def test_each_page_and_the_report_have_what_the_database_has() -> None:
    from tests.stores.postgres.new_schema import migrated, new_schema

    backend = new_schema()
    async with backend.open_store() as store, backend.open_view() as reader:
        first = Harness(store, reader, await store.create_run(a_run("demo", spec_json=SPEC)))
        await fill(first, rows=8)
        second = Harness(store, reader, await store.create_run(a_run("second", spec_json=SPEC)))
        for row in await second.add(4):
            await second.fail(row, code="server_error", charge=an_unknown_charge(5_000))
        dataset_id = await store.open_dataset("reviews", simulated=False)
        await store.begin_night(first.run.id, dataset_id)
        await store.count_changes(first.run.id, Changes({Change.NEW: 8}))
    async with visitor(migrated(), may_write=True) as client:
        for path in PATHS:
            page = await client.get(path)
            assert page.status_code == 200, path
            page_path, _, query = path.partition("?")
            shown = await client.get(f"{page_path.rstrip('/') or '/runs'}.json{'?' if query else ''}{query}")
            assert shown.status_code == 200, path
        [found] = (await client.get("/run/demo/rows.json?q=ANSWER+to+row-3")).json()["rows"]
        assert found["key"] == "row-3"
        sums = (await client.get("/run/demo.json")).json()["summary"]
        assert (sums["requests"]["total"], sums["requests"]["failed"]) == (8, 1)
    async with RunBrowser.open(migrated()) as browser:
        report = await run_report(browser, await browser.run("demo"), ReportOptions())
        assert report["summary"]["cost_usd"] == sums["cost_usd"] == report["costs"]["total"]["cost_usd"]
        assert report["latency"]["rows"] == sums["requests"]["succeeded"]
        assert [each.model for each in report["prices"]] == ["gpt-5-mini"]
        assert len(report["slowest"]) == len(report["most_expensive"]) == report["settled"]
        assert "refusal" in report_html(report)
