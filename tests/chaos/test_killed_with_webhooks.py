"""With webhooks, a run that is killed with creates on the wire finds their responses again, and pays none twice."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .station import Provider, free_port
from .test_crashes import KilledRun, killed_run

_SECRET = "whsec_c2VjcmV0IG9mIHRoZSBjaGFvcyB0ZXN0cw=="
# Creates are on the wire for long, so that each kill strikes some of them.
_PROVIDER = {
    "latency": {"queue": 0.05, "run": {"from_s": 0.1, "to_s": 0.5}, "reply": {"from_s": 0.1, "to_s": 0.3}},
}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", _SECRET)


def events_to(port: int) -> dict[str, Any]:
    return {"deliver_to": f"http://127.0.0.1:{port}/", "secret": _SECRET, "longest_wait_s": 0.5}


def killed_run_with_webhooks(folder: Path, provider: Provider, port: int, *, rows: int, per_minute: int) -> KilledRun:
    run = killed_run(folder, provider, rows=rows, per_minute=per_minute, seed=5)
    webhooks = {"listen": f"127.0.0.1:{port}", "secret_env": "WEBHOOK_SECRET"}
    run.station.write_config(
        run.station.config | {"webhooks": webhooks, "in_doubt": {"wait_for_event": "5s", "resend_below_usd": 1}}
    )
    return run


def play(folder: Path, *, rows: int, kills: int, per_minute: int) -> KilledRun:
    port = free_port()
    with Provider(folder, _PROVIDER | {"webhooks": events_to(port)}) as provider:
        run = killed_run_with_webhooks(folder, provider, port, rows=rows, per_minute=per_minute)
        for number in range(kills):
            if number % 3:
                run.kill_after(run.rng.uniform(0.2, 0.8))
            else:
                # The reply to a create has arrived, and its id is not on disk.
                run.kill_at(f"before:accept:{run.rng.randint(1, 9)}", within_s=10)
        summary = run.finish()
        created = Counter(each["key"] for each in provider.responses())
    assert summary["requests"]["succeeded"] == rows
    assert audit(run.station.database).states == {State.SUCCEEDED: rows}
    assert run.on_the_wire
    assert sum(created.values()) == len(created) == rows
    return run


def test_responses_of_lost_replies_are_found_and_none_is_paid_twice(tmp_path: Path) -> None:
    play(tmp_path, rows=60, kills=2, per_minute=6_000)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_25_kills_over_600_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = play(tmp_path, rows=600, kills=25, per_minute=3_000)
    with capsys.disabled():
        killed, lost = sum(run.kills.values()), len(run.on_the_wire)
        sys.stdout.write(f"\n{killed} kills, {lost} creates were on the wire, none paid twice\n")
    assert sum(run.kills.values()) >= 20
