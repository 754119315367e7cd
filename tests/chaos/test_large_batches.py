"""Sixty thousand rows by batches: files within their limits, few tokens enqueued, and little memory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from .conftest import Note
from .station import Provider, Station

ROWS = 60_000
# Two batches of ten thousand lines fit, and a third does not.
LIMIT = 6_000_000
# As long as it takes to make the next batches, so that several are open.
SANDBOX = {"latency": {"queue": 1, "run": {"from_s": 40, "to_s": 60}}, "limits": {"batch_enqueued_tokens": LIMIT}}


@pytest.mark.long
def test_sixty_thousand_rows_in_batches(tmp_path: Path, note: Note) -> None:
    batch = {"enqueued_tokens": LIMIT, "grace": "30s"}
    with Provider(tmp_path, SANDBOX) as provider:
        config = {"lanes": {"batch": batch}, "timeouts": {"read": "120s"}}
        station = Station(tmp_path, rows=0, job={"lane": "batch"}, config=config, provider=provider)
        text = "The harvest was good this year, and trade with our neighbors grew in every port. " * 12
        station.write_rows({"id": f"row-{n}", "text": f"{n}. {text}"} for n in range(ROWS))
        with (tmp_path / "out.json").open("w") as out:
            process = station.start(*station.run_arguments("--yes"), stdout=out, stderr=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        summary, ledger = json.loads((tmp_path / "out.json").read_text()), provider.ledger()
        assert process.returncode == 0
        files = station.query("SELECT lines, tokens FROM provider_batch")
    megabytes, batches = used.ru_maxrss / 1024, ledger["batches"]
    note(
        f"{len(files)} batches of at most {max(lines for lines, _ in files):,} lines, {megabytes:.0f} MB, "
        f"{batches['most_enqueued_tokens']:,} of {LIMIT:,} tokens enqueued, {used.ru_utime / ROWS * 1e3:.2f} ms a row"
    )
    assert summary["requests"]["succeeded"] == ROWS == sum(lines for lines, _ in files) == batches["lines"]
    assert len(files) >= 6
    assert max(lines for lines, _ in files) <= 10_000
    assert batches.get("token_limited", 0) == 0
    assert LIMIT / 2 < batches["most_enqueued_tokens"] <= LIMIT
    assert summary["cost_usd"] == ledger["cost_usd"]
    assert megabytes <= 200
