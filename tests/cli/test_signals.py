"""The first signal asks, the second ends, and nothing waits for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

SCRIPT = """
import asyncio, sys, time
from orchestrator.cli import signals
signals._STOP_TIMEOUT_S = float(sys.argv[2])
signals._ONE_STOP_S = float(sys.argv[3])

async def main():
    stopped = asyncio.Event()
    def stop():
        print("heard", flush=True)
        stopped.set()
    with signals.Interruption(stop) as interruption:
        print("ready", flush=True)
        if sys.argv[1] == "obedient":
            await stopped.wait()
        elif sys.argv[1] == "deaf":
            await asyncio.sleep(60)
        elif sys.argv[1] == "busy":
            end = time.monotonic() + 60
            while time.monotonic() < end:
                pass
        elif sys.argv[1] == "finished":
            await stopped.wait()
            interruption.disarm()
            await asyncio.sleep(float(sys.argv[2]) * 2)
    print("left", flush=True)
    return interruption.code

sys.exit(asyncio.run(main()))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that waits in a given way; it is ready for signals when this returns."""
    started: list[subprocess.Popen[str]] = []

    def run(manner: str, timeout_s: float = 30.0, one_stop_s: float = 30.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, manner, str(timeout_s), str(one_stop_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ignored signals are inherited, and nohup ignores this one.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_the_first_signal_asks_to_stop(
    start: Callable[..., subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    process = start("obedient")
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (code, "heard\nleft\n", "")


def test_the_second_signal_ends_at_once(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("deaf", one_stop_s=0)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "ended at once" in err


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_come_together_are_one_stop(
    start: Callable[..., subprocess.Popen[str]], second: signal.Signals
) -> None:
    process = start("finished", 0.3)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "heard\n"
    process.send_signal(second)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "left\n", "")


@pytest.mark.parametrize("manner", ["deaf", "busy"])
def test_a_run_that_does_not_come_to_rest_is_ended(start: Callable[..., subprocess.Popen[str]], manner: str) -> None:
    process = start(manner, 0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert "stopping took too long" in err


def test_a_run_that_finished_after_all_has_time_for_the_rest(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("finished", 0.3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert (process.returncode, out) == (130, "heard\nleft\n")


def test_a_hang_up_is_ignored_under_nohup() -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", SCRIPT, "obedient", "30", "30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
