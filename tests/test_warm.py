"""The processes that start at once behave like those of the usual Python."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.warm import warm_python

BOTH = pytest.mark.parametrize("warm", [True, False], ids=["warm", "usual"])


def python(warm: bool, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [warm_python() if warm else sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@BOTH
def test_streams_environment_and_exit_code(warm: bool) -> None:
    code = "import os, sys; print(input(), os.environ, os.getcwd()); print('e', file=sys.stderr); sys.exit(7)"
    ended = python(warm, "-c", code, input="hello\n", env={"A": "b"}, cwd="/")
    assert (ended.returncode, ended.stdout.split()[0], ended.stderr) == (7, "hello", "e\n")
    assert "'A': 'b'" in ended.stdout
    assert ended.stdout.endswith(" /\n")


@BOTH
def test_an_exception_is_exit_1_with_a_traceback(warm: bool) -> None:
    ended = python(warm, "-c", "raise ValueError('oh')")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "ValueError: oh")


@BOTH
def test_a_process_that_kills_itself(warm: bool) -> None:
    assert python(warm, "-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_a_signal_ends_it(warm: bool, number: signal.Signals) -> None:
    command = [warm_python() if warm else sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(number)
        assert process.stdout.read() == b""  # also when the launcher is killed, the process ends
        assert process.wait() == -number


@BOTH
def test_a_closed_stream_stays_closed(warm: bool) -> None:
    command = warm_python() if warm else sys.executable
    code = "import sys; sys.exit(3 if sys.stdout is None else 4)"
    assert subprocess.run(["sh", "-c", f'"$0" -c "{code}" >&-', command], check=False).returncode == 3
