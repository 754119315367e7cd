"""What a machine can do to a run: fill its disk, lock or damage its database, close its terminal, set its clock."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import shlex
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from tests.end_to_end.rig import Ended
from tests.stores.sqlite.audit import audit

from .station import KEY, Provider, Station

# Takes minutes of waiting on locks and full disks.
pytestmark = pytest.mark.chaos

ROWS = 60


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider whose responses take about a second; its files are outside the run's folder."""
    folder = tmp_path / "provider"
    folder.mkdir()
    with Provider(folder, {"latency": {"queue": 0.1, "run": {"from_s": 0.3, "to_s": 1}}}) as provider:
        yield provider


@pytest.fixture
def station(tmp_path: Path, provider: Provider) -> Station:
    """A run of a few seconds."""
    folder = tmp_path / "station"
    folder.mkdir()
    config = {
        "provider": {"base_url": f"{provider.address}/v1"},
        "limits": {"requests_per_minute": 1200, "max_in_flight": 64},
    }
    return Station(folder, rows=ROWS, config=config, provider=provider)


def begin(station: Station, reached: Callable[[], bool], **options: Any) -> subprocess.Popen[str]:
    """Starts the run; returns when ``reached`` is true."""
    run = station.start(*station.run_arguments(), **options)
    while not reached():
        assert run.poll() is None, run.communicate()
        time.sleep(0.02)
    return run


def stop_at(station: Station, settled: int) -> Ended:
    """Interrupts the run after ``settled`` rows."""
    run = begin(station, lambda: station.settled() >= settled)
    run.send_signal(signal.SIGTERM)
    ended = station.end(run)
    assert ended.code == 143
    return ended


def check_message(ended: Ended, *words: str) -> None:
    """The run ended with one message that contains the words, and without a traceback."""
    assert ended.code == 5, ended
    assert all(word in ended.err for word in words), ended.err
    assert "hint:" in ended.err
    assert "Traceback" not in ended.err


def finish(station: Station, provider: Provider, *, in_doubt: int = 0) -> None:
    """Resumes the run, and checks that nothing was lost and only requests in doubt were sent twice."""
    ended = station.run()
    assert ended.code == 0, ended.err
    assert audit(station.database).states == {State.SUCCEEDED: ROWS}
    assert ended.summary["possible_duplicates"] == in_doubt
    ledger = provider.ledger()
    assert ledger["creates"]["accepted"] <= ROWS + in_doubt
    assert ledger["seen_by_client"]["cost_usd"] == ended.summary["cost_usd"]


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_must_not_grow(station: Station, provider: Provider) -> None:
    size = 200_000
    run = station.start(
        *station.run_arguments(), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    )
    ended = station.end(run)
    check_message(ended, "runs.db", "reading or writing the database failed")
    finish(station, provider, in_doubt=station.settled("'submitting'"))


IN_A_SMALL_PLACE = """
mount -t tmpfs -o size=300k none small || exit 77
{command}; echo "$?" > full.code
mount -o remount,size=64m small
{command}; echo "$?" > freed.code
cp small/* .
"""
READ_ONLY = """
mount --bind . . && mount -o remount,ro,bind . || exit 77
cd . && {command}
"""


def in_own_mounts(station: Station, script: str, **names: str) -> Ended:
    """Runs the job in a shell script with mounts of its own, which no other process sees."""
    arguments = [names.get(argument, argument) for argument in station.run_arguments()]
    command = shlex.join([sys.executable, "-m", "orchestrator", *arguments])
    process = subprocess.Popen(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script.format(command=command)],
        cwd=station.folder,
        env={**os.environ, "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ended = station.end(process, timeout_s=90)
    if ended.code == 77 or "unshare" in ended.err:
        pytest.skip("mounting is not allowed here")
    return ended


def test_a_full_disk(station: Station, provider: Provider) -> None:
    (station.folder / "small").mkdir()
    ended = in_own_mounts(station, IN_A_SMALL_PLACE, **{"runs.db": "small/runs.db"})
    assert (station.folder / "full.code").read_text() == "5\n", ended.err
    assert "the disk is full" in ended.err
    assert "Traceback" not in ended.err
    assert (station.folder / "freed.code").read_text() == "0\n", ended.err
    assert audit(station.database).states == {State.SUCCEEDED: ROWS}


def test_a_disk_that_becomes_read_only(station: Station, provider: Provider) -> None:
    stop_at(station, 10)
    check_message(in_own_mounts(station, READ_ONLY), "runs.db", "may be written")
    finish(station, provider)


# ── the database ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_that_is_locked_for_a_while(station: Station, provider: Provider) -> None:
    run = begin(station, lambda: station.settled() >= 10)
    with closing(sqlite3.connect(station.database, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = station.settled()
        time.sleep(2.5)
        assert station.settled() == before
        other.execute("ROLLBACK")
    ended = station.end(run)
    assert ended.code == 0, ended.err
    finish(station, provider)


@pytest.mark.chaos
def test_a_database_that_stays_locked(station: Station, provider: Provider) -> None:
    run = begin(station, lambda: station.settled() >= 10)
    with closing(sqlite3.connect(station.database, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started_at = time.monotonic()
        ended = station.end(run, timeout_s=120)
        took_s = time.monotonic() - started_at
        in_doubt = station.settled("'submitting'")
        other.execute("ROLLBACK")
    check_message(ended, "another program keeps the database locked")
    assert 25 < took_s < 45
    finish(station, provider, in_doubt=in_doubt)


def test_a_damaged_database(station: Station) -> None:
    stop_at(station, 20)
    with station.database.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(30 * 4096))
    check_message(station.run(), "runs.db", "damaged", ".recover")
    check_message(station.call("status", "r", "--db", "runs.db"), "damaged")


# ── the terminal and the operator ─────────────────────────────────────────────────────────────────────────────


def test_a_stop_costs_nothing(station: Station, provider: Provider) -> None:
    ended = stop_at(station, 20)
    assert ended.summary["state"] == "paused"
    assert ended.summary["requests"]["submitting"] == 0
    finish(station, provider)
    assert provider.ledger()["creates"]["accepted"] == ROWS


def test_a_terminal_that_is_closed(station: Station, provider: Provider) -> None:
    terminal, side = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(side, termios.TIOCSCTTY, 0)

    try:
        run = begin(
            station,
            lambda: station.settled() >= 20,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
    finally:
        os.close(side)
        os.close(terminal)
    assert run.wait() == 143
    finish(station, provider)


def test_two_interrupts_end_it_at_once(station: Station, provider: Provider) -> None:
    # The database is locked, so that the run cannot obey the first interrupt quickly.
    run = begin(station, lambda: station.settled() >= 10)
    with closing(sqlite3.connect(station.database, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        run.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        ended = station.end(run, timeout_s=5)
        other.execute("ROLLBACK")
    assert ended.code == 130
    assert "ended at once" in ended.err
    finish(station, provider, in_doubt=station.settled("'submitting'"))


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_was_set_while_the_run_was_paused(tmp_path: Path, hours: int) -> None:
    """Delayed retries and open responses do not wait an hour longer."""
    settings = {"latency": {"queue": 0.1, "run": {"from_s": 1, "to_s": 2}}, "faults": {"server_error": 0.15}}
    with Provider(tmp_path, settings) as provider:
        station = Station(tmp_path, rows=60, provider=provider, job={"retry": {"attempts": 30}})
        paused = stop_at(station, 5)
        assert paused.summary["requests"]["submitted"] > 0
        assert station.query("SELECT id FROM request WHERE state = 'pending' AND not_before > 0")
        station.launcher = ("tests.chaos.set_clock", str(hours * 3600))
        ended = station.run()
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 60
    assert ("the clock of this machine was set back" in ended.err) is (hours < 0)
