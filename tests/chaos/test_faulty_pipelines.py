"""Every fault of the sandbox at once on a pipeline: every row that can succeed does, and groups have what is left."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from tests.reliability.naive_pipeline import STAGES, Stored, naive, some_rows, three_stages
from tests.stores.sqlite.audit import audit

from .conftest import Note
from .everything import CONFIG, FINAL, JOB, rates
from .station import Provider, Station

_CHARGES = """
    SELECT stage, response_id, cost_pusd FROM charge JOIN attempt ON attempt.id = attempt_id
    JOIN request ON request.id = attempt.request_id WHERE cost_pusd IS NOT NULL
"""
_FAILED = """
    SELECT stage, key, request.code, response_id FROM request
    LEFT JOIN attempt ON request_id = request.id AND attempt.number = request.number WHERE state = 'failed'
"""
# The answer that cannot be read may be a good one, and a lost row leaves groups that have no other.
_CODES = {*FINAL.values(), "max_output_tokens", "group_incomplete"}


def stages_that_cope() -> dict[str, Any]:
    stages = three_stages("any")
    for stage in stages.values():
        stage["request"] |= {"max_output_tokens": 400}
        stage["on_incomplete"] = JOB["on_incomplete"]
    return stages


@pytest.mark.long
def test_every_row_of_a_pipeline_that_can_succeed_does(tmp_path: Path, note: Note) -> None:
    rows = 300
    given = some_rows(random.Random(rows), rows)
    with Provider(tmp_path, {"seed": 5, "faults": rates()}) as provider:
        station = Station(tmp_path, config=CONFIG, provider=provider)
        station.write_job(
            {
                "name": "faulty",
                "input": {"path": "rows.jsonl", "key": "id"},
                "stages": stages_that_cope(),
                "retry": JOB["retry"],
            }
        )
        station.write_rows(given)
        ended = station.run()
        ledger, created = provider.ledger(), {each["id"]: each for each in provider.responses()}
    assert ended.code in (0, 3), ended.err
    summary, stored = ended.summary, Stored.read(station.database)
    assert summary["state"] == "finished"
    wanted = naive(given, stored)
    for stage in STAGES:
        assert stored.asked(stage) == wanted[stage], stage
    failed = station.query(_FAILED)
    for stage, key, code, response_id in failed:
        assert code in _CODES, (stage, key, code)
        assert code == "unreadable_reply" or not created.get(response_id, {}).get("usable"), (stage, key)
    assert audit(station.database).states[State.FAILED] == len(failed)
    # Each response costs at each stage what the sandbox has billed for it, and together what the client has seen.
    costs: Counter[str] = Counter()
    for stage, response_id, cost_pusd in station.query(_CHARGES):
        assert created[response_id]["cost_pusd"] == cost_pusd, (stage, response_id)
        costs[stage] += cost_pusd
    assert summary["cost_usd"] == ledger["seen_by_client"]["cost_usd"]
    assert costs.total() == ledger["seen_by_client"]["cost_pusd"]
    codes = Counter(code for _, _, code, _ in failed)
    note(f"{rows} rows, {summary['requests']['total']} requests, {len(failed)} could not succeed: {dict(codes)}")
