"""The provider's process stops for a while and restarts with its state: the run waits, and resumes by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .conftest import Note
from .station import Provider, Station

# The longest interval between two probes, and its jitter (orchestrator.policy.rate_limits.circuit_breaker).
_LONGEST_PROBE_S = 30.0
_JITTER = 1.2


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        pytest.param(60, 3, marks=pytest.mark.long),
        pytest.param(300, 120, marks=[pytest.mark.chaos]),
    ],
)
def test_a_provider_that_stops_and_restarts(tmp_path: Path, note: Note, rows: int, seconds: int) -> None:
    settings = {"latency": {"queue": 0.2, "run": {"from_s": 0.3, "to_s": 1.5}}}
    with Provider(tmp_path, settings) as provider:
        config = {
            "provider": {"base_url": f"{provider.address}/v1"},
            "limits": {"requests_per_minute": 1200, "max_in_flight": 64},
        }
        station = Station(tmp_path, rows=rows, config=config, provider=provider)
        run = station.start(*station.run_arguments("--progress", "plain"))
        while station.settled() < rows // 4:
            assert run.poll() is None
            time.sleep(0.02)
        provider.stop()
        time.sleep(seconds)
        provider.start()
        back_at = time.time()
        ended = station.end(run, timeout_s=120)
        ledger = provider.ledger()
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == rows
    assert ended.err.count("the provider does not answer; orchestrator") == ended.err.count("answers again") == 1
    # Calls on the wire when the process stopped may be lost; nothing else spent an attempt.
    lost = ended.summary["possible_duplicates"]
    assert ended.summary["attempts"] - rows == lost <= 16
    assert ledger["duplicates"]["usable"] <= lost
    # One probe, the five seconds it may take, and the time to settle the row.
    [(recovered_at,)] = station.query(f"SELECT min(settled_at) FROM request WHERE settled_at > {back_at}")  # noqa: S608
    note(f"gone for {seconds} s; {lost} replies lost; a row settled {recovered_at - back_at:.1f} s after the return")
    assert recovered_at - back_at <= min(_LONGEST_PROBE_S, seconds + 1) * _JITTER + 5
