"""Every fault that the sandbox knows, all at once: whatever can succeed succeeds, and the books are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.lifecycle import State
from orchestrator.sandbox.settings import (
    DELIVERY_FAULTS,
    ENDING_FAULTS,
    POLL_FAULTS,
    QUIRKS,
    REFUSAL_FAULTS,
)
from tests.stores.audit import audit

from .station import Provider, Station

# What ends a row for good, with the code that it then has.
FINAL = {
    "failed_invalid_prompt": "invalid_prompt",
    "content_filter": "content_filter",
    "empty_output": "empty_output",
    "refusal": "refusal",
    "requires_action": "requires_action",
}
# No money stops the run, as it should (tests/reliability/test_halts.py); everything else is on.
FAULTS = [
    name
    for name in (*REFUSAL_FAULTS, *DELIVERY_FAULTS, *ENDING_FAULTS, *QUIRKS, *POLL_FAULTS)
    if name != "insufficient_quota"
]


def rates() -> dict[str, float]:
    """All of them between one and two per cent: a third of all attempts comes to nothing."""
    rare = {*FINAL, "stuck_queued", "stuck_in_progress", "stale_snapshot"}
    return {name: 0.01 if name in rare else 0.016 for name in FAULTS}


@pytest.mark.parametrize(
    ("rows", "within_s"),
    [(40, 90), pytest.param(400, 120, marks=[pytest.mark.chaos, pytest.mark.timeout(300)])],
)
def test_every_fault_at_once(tmp_path: Path, rows: int, within_s: float) -> None:
    # What vanishes does so a while after its end: sooner, a look that is late on a busy machine would find nothing,
    # and whether a response has expired for good is not decided within its first two minutes.
    settings = {"seed": 5, "faults": {**rates(), "vanish_after_s": 30}}
    request = {
        "model": "gpt-5-mini",
        "input": "Summarise in two sentences:\n{{ text }}",
        "max_output_tokens": 400,
        "service_tier": "{{ tier }}",
    }
    job = {
        "request": request,
        "retry": {"attempts": 15},
        "on_incomplete": {"raise_max_output_tokens_to": 900},
    }
    with Provider(tmp_path, settings) as provider:
        config = {"timeouts": {"read": "3s", "queued": "8s", "run": "10s"}}
        station = Station(tmp_path, rows=rows, job=job, config=config, provider=provider)
        tiers = ["default", "default", "default", "flex"]
        station.write_rows(
            {"id": f"row-{n}", "text": f"The report of the year {1800 + n} was read aloud.", "tier": tiers[n % 4]}
            for n in range(rows)
        )
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
            assert each["error"]["code"] in {*FINAL.values(), "max_output_tokens"}, each
            assert not usable[each["response_id"]], each
    failed = sum(each["state"] == "failed" for each in results)
    assert ended.code == (3 if failed else 0), ended.err
    assert audit(station.database).states == {State.SUCCEEDED: rows - failed, State.FAILED: failed}
    # The bill is what was seen, to the last picodollar; and nothing was paid for twice that could have been known.
    assert summary["cost_usd"] == ledger["seen_by_client"]["cost_usd"]
    assert summary["usage"] == ledger["seen_by_client"]["usage"]
    assert summary["reserved_usd"] == "0"
    assert ledger["duplicates"]["usable"] <= ledger["replies_lost"]["total"]
