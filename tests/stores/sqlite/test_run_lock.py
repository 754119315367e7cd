"""The lock file: one process per run, however the last one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.core.errors import ExitCode, RunBusy, StoreError
from orchestrator.stores.sqlite.run_lock import RunLock, is_locked

HOLD = """
import sys
from pathlib import Path
from orchestrator.core.errors import RunBusy
from orchestrator.stores.sqlite.run_lock import RunLock
try:
    with RunLock(Path(sys.argv[1]), int(sys.argv[2]), "demo"):
        print("held", flush=True)
        sys.stdin.readline()
except RunBusy as error:
    print(error.message, flush=True)
"""


@contextmanager
def another_process(database: Path, run_id: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that takes the lock; yields it and its first line of output."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database), str(run_id)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_second_process_learns_who_holds_the_run(database: Path) -> None:
    with another_process(database, 1) as (holder, printed):
        assert printed == "held"
        assert is_locked(database, 1)
        with (
            pytest.raises(RunBusy, match=rf"run 'demo' is locked by another process \({holder.pid}\)") as raised,
            RunLock(database, 1, "demo"),
        ):
            pass
        assert raised.value.exit_code is ExitCode.BUSY
        assert raised.value.hint == "see its progress: orchestrator status demo"


def test_the_lock_of_a_killed_process_ends_at_once(database: Path) -> None:
    with another_process(database, 1) as (holder, _):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not is_locked(database, 1)
        with RunLock(database, 1, "demo"):
            assert is_locked(database, 1)


def test_a_lock_excludes_other_processes(database: Path) -> None:
    with RunLock(database, 1, "demo"), another_process(database, 1) as (_, printed):
        assert printed == f"run 'demo' is locked by another process ({os.getpid()})"
    with another_process(database, 1) as (_, printed):
        assert printed == "held"


def test_a_lock_excludes_other_callers_in_its_process(database: Path) -> None:
    with RunLock(database, 1, "demo"):
        with pytest.raises(RunBusy, match="run 'demo' is locked by this process"), RunLock(database, 1, "demo"):
            pass
        assert is_locked(database, 1)
    assert not is_locked(database, 1)
    with RunLock(database, 1, "demo"):
        pass


def test_runs_of_one_database_have_locks_of_their_own(database: Path) -> None:
    with another_process(database, 1) as (_, first), another_process(database, 2) as (_, second):
        assert (first, second) == ("held", "held")
        with RunLock(database, 3, "third"), RunLock(database, 4, "fourth"):
            assert [is_locked(database, run_id) for run_id in range(6)] == [False, True, True, True, True, False]
        # Closing a handle drops all POSIX locks of a process: ending one lock must not end another.
        with RunLock(database, 3, "third"):
            with RunLock(database, 4, "fourth"):
                pass
            with another_process(database, 3) as (_, printed):
                assert printed.startswith("run 'demo' is locked by another process")


def test_a_check_does_not_end_the_lock(database: Path) -> None:
    with RunLock(database, 1, "demo"):
        assert not is_locked(database, 2)
        assert is_locked(database, 1)
        with another_process(database, 1) as (_, printed):
            assert printed.startswith("run 'demo' is locked by another process")


def test_every_path_to_a_database_leads_to_the_same_lock(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.touch()
    link = tmp_path / "link.db"
    link.symlink_to(database)
    monkeypatch.chdir(tmp_path)
    with RunLock(link, 1, "demo"):
        assert is_locked(Path(database.name), 1)
        with another_process(database, 1) as (_, printed):
            assert printed.startswith("run 'demo' is locked by another process")


def test_the_file_lists_the_processes_by_run(database: Path) -> None:
    with RunLock(database, 1, "demo"), RunLock(database, 2, "other"):
        lines = database.with_name("runs.db.lock").read_text(encoding="ascii").splitlines()
        assert [line.split() for line in lines] == [["1", str(os.getpid())], ["2", str(os.getpid())]]


def test_a_check_leaves_no_file(database: Path) -> None:
    assert not is_locked(database, 1)
    assert list(database.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists the open files")
def test_no_handle_is_left_open(database: Path) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    with RunLock(database, 1, "demo"), RunLock(database, 2, "other"):
        with pytest.raises(RunBusy), RunLock(database, 1, "demo"):
            pass
        is_locked(database, 3)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_lock_file_that_cannot_be_created(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="lock file cannot be written") as raised,
        RunLock(tmp_path / "nowhere" / "runs.db", 1, "demo"),
    ):
        pass
    assert raised.value.hint
