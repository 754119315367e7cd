"""Every fault of the sandbox at once: every row that can succeed succeeds, and the costs are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .conftest import Note
from .everything import CONFIG, FINAL, JOB, rates, rows_of_speeches
from .station import Provider, Station


@pytest.mark.parametrize(
    ("rows", "within_s"),
    [(40, 180), pytest.param(400, 120, marks=[pytest.mark.chaos])],
)
def test_every_fault_at_once(tmp_path: Path, note: Note, rows: int, within_s: float) -> None:
    with Provider(tmp_path, {"seed": 5, "faults": rates()}) as provider:
        station = Station(tmp_path, rows=rows, job=JOB, config=CONFIG, provider=provider)
        station.write_rows(rows_of_speeches(rows))
        run = station.start(*station.run_arguments("--output", "results.jsonl"))
        ended = station.end(run, timeout_s=within_s)
        ledger, created = provider.ledger(), provider.responses()
    summary = ended.summary
    usable = {each["id"]: each["usable"] for each in created}
    results = [json.loads(line) for line in (station.folder / "results.jsonl").read_text().splitlines()]
    assert [each["key"] for each in results] == [f"row-{n}" for n in range(rows)]
    for each in results:
        if each["state"] == "succeeded":
            assert usable[each["response_id"]], each
        else:
            assert each["error"]["code"] in {*FINAL.values(), "max_output_tokens"}, each["error"]
            # The answer that cannot be read may be a good one.
            unreadable = each["error"]["code"] == "unreadable_reply"
            assert unreadable or not usable.get(each["response_id"]), each
    twice, lost = ledger["duplicates"]["usable"], ledger["replies_lost"]["total"]
    failed = sum(each["state"] == "failed" for each in results)
    bills = f"${summary['cost_usd']}, ${ledger['seen_by_client']['cost_usd']} by the sandbox"
    note(
        f"{rows} rows in {summary['elapsed_s']:.0f} s, {failed} that could not succeed; "
        f"{summary['attempts']} attempts, {summary['polls']} polls; {bills}; "
        f"{lost} replies lost, {twice} usable answers twice"
    )
    assert ended.code == (3 if failed else 0), ended.err
    assert audit(station.database).states == {State.SUCCEEDED: rows - failed, State.FAILED: failed}
    # The cost equals what the client saw, to the last picodollar; and only lost replies were paid for twice.
    assert summary["cost_usd"] == ledger["seen_by_client"]["cost_usd"]
    assert summary["usage"] == ledger["seen_by_client"]["usage"]
    assert summary["reserved_usd"] == "0"
    assert twice <= lost
