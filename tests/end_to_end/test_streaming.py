"""Streamed runs and ``follow`` over the real sandbox: what arrives, what is lost, and equal results."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .rig import Rig

AT = ("--db", "runs.db")
CONFIGURED = (*AT, "--config", "config.yaml")
LONG = {"latency": {"queue": 0.1, "run": 2.5}}
# Long enough for another process to start and look on, on a busy machine too.
FOLLOWED = {"latency": {"queue": 0.1, "run": 8}}
SUBMITTED = "'submitted'"


@pytest.fixture
def started() -> Iterator[Callable[[Rig], subprocess.Popen[str]]]:
    """Starts a run in another process, and returns when all its requests are open; it is ended with the test."""
    begun: list[subprocess.Popen[str]] = []

    def start(rig: Rig) -> subprocess.Popen[str]:
        process = rig.start(*rig.run_arguments())
        begun.append(process)
        while rig.settled(SUBMITTED) < rig.rows:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def streamed(rig: Callable[..., Rig]) -> Callable[..., Rig]:
    def make(rows: int = 3, sandbox: dict[str, Any] | None = None, **job: Any) -> Rig:
        return rig(rows=rows, sandbox=sandbox or LONG, job={"stream": True, **job})

    return make


def answers(rig: Rig) -> list[tuple[Any, ...]]:
    return rig.query("SELECT key, output_text FROM results ORDER BY key")


def test_a_streamed_run_is_polled_when_its_responses_have_ended(streamed: Callable[..., Rig]) -> None:
    rig = streamed()
    summary = rig.run().summary
    assert summary["requests"]["succeeded"] == 3
    assert rig.ledger()["responses"] == {"completed": 3}
    lags = rig.query("SELECT max(ended_at - completed_at) FROM attempt")
    assert lags[0][0] < 2
    for (events,) in rig.query("SELECT group_concat(type, ' ') FROM progress_event GROUP BY attempt_id"):
        assert events.startswith("response.created response.queued response.in_progress response.output_item.added")
        assert events.endswith("response.completed")
        assert "delta" not in events
    shown = rig.call("show", "r", "row-1", *AT)
    assert "response.output_item.added (message) after" in shown.out
    assert len(rig.call("show", "r", "row-1", *AT, "--json").summary["attempts"][0]["progress"]) > 5


@pytest.mark.long
def test_streams_that_break_change_nothing(streamed: Callable[..., Rig]) -> None:
    rig = streamed(sandbox={**LONG, "faults": {"stream_drop": 0.9}})
    assert rig.run().summary["requests"]["succeeded"] == 3
    assert rig.ledger()["creates"]["accepted"] + rig.query("SELECT count(*) FROM attempt WHERE possible_duplicate")[
        0
    ][0] == len(rig.ledger_responses())


@pytest.mark.long
def test_a_run_that_is_killed_resumes_with_the_same_responses(streamed: Callable[..., Rig]) -> None:
    rig = streamed()

    def events() -> int:
        return int(rig.query("SELECT count(*) FROM progress_event")[0][0]) if rig.settled(SUBMITTED) == 3 else 0

    ended = rig.run_until(lambda: events() >= 3, send=signal.SIGKILL)
    assert ended.code == -signal.SIGKILL
    before = rig.query("SELECT response_id FROM attempt ORDER BY id")
    assert rig.run().summary["requests"]["succeeded"] == 3
    assert rig.query("SELECT response_id FROM attempt ORDER BY id") == before
    assert rig.ledger()["creates"]["accepted"] == 3
    numbers = rig.query(
        "SELECT attempt_id, count(*), count(DISTINCT sequence) FROM progress_event GROUP BY attempt_id"
    )
    assert all(events == distinct for _, events, distinct in numbers)


@pytest.mark.long
def test_a_response_that_is_stranded_with_its_stream_is_given_up_and_asked_again(
    streamed: Callable[..., Rig],
) -> None:
    rig = streamed(rows=2, sandbox={"latency": {"queue": 3, "run": 0.2}, "faults": {"stuck_when_left": 1.0}})
    rig.run_until(lambda: rig.settled(SUBMITTED) == 2, send=signal.SIGKILL)
    rig.write_config({**rig.config, "timeouts": {"queued": "1s"}})
    left = rig.run("--set", "retry.attempts=2")
    assert left.code in (0, 3), left.err
    assert rig.query("SELECT count(*) FROM attempt WHERE code = 'queued_timeout'")[0][0] >= 2


@pytest.mark.long
def test_in_bulk_nothing_is_streamed(streamed: Callable[..., Rig]) -> None:
    rig = streamed(rows=201)
    refused = rig.run()
    assert refused.code == 2
    assert "stream is for a few long tasks, and the input has more than 200 rows" in refused.err
    assert rig.run("--limit", "0").code == 2
    assert not rig.database.exists()


# ── follow ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_is_followed_during_its_run(
    streamed: Callable[..., Rig], started: Callable[[Rig], subprocess.Popen[str]]
) -> None:
    rig = streamed(rows=1, sandbox=FOLLOWED)
    run = started(rig)
    followed = rig.call("follow", "r", "row-0", *CONFIGURED)
    assert followed.code == 0, followed.err
    assert rig.end(run).code == 0
    [(_, text)] = answers(rig)
    assert followed.out == f"{text}\n"
    assert followed.err.splitlines()[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert followed.err.splitlines()[-1] == "completed"
    again = rig.call("follow", "r", "row-0", *AT)
    assert (again.code, again.out, again.err) == (0, f"{text}\n", "succeeded\n")


@pytest.mark.long
def test_following_can_be_interrupted_and_taken_up(
    streamed: Callable[..., Rig], started: Callable[[Rig], subprocess.Popen[str]]
) -> None:
    rig = streamed(rows=1, sandbox=FOLLOWED)
    run = started(rig)
    first = rig.start("follow", "r", "row-0", *CONFIGURED)
    assert first.stdout is not None
    beginning = first.stdout.read(20)
    first.send_signal(signal.SIGINT)
    ended = rig.end(first)
    assert ended.code == 130
    [hint] = [line for line in ended.err.splitlines() if "continue with" in line]
    received = beginning + ended.out.removesuffix("\n")
    rest = rig.call(*hint.split("orchestrator ")[1].split(), *CONFIGURED)
    assert rest.code == 0
    assert rig.end(run).code == 0
    [(_, text)] = answers(rig)
    # The event received last may have been reported before its piece of text was printed: none is lost.
    assert received
    assert text.startswith(received)
    assert text.endswith(rest.out.removesuffix("\n"))
    assert len(received) + len(rest.out.removesuffix("\n")) >= len(text)


@pytest.mark.long
def test_a_stream_that_breaks_is_taken_up_where_it_broke(
    streamed: Callable[..., Rig], started: Callable[[Rig], subprocess.Popen[str]]
) -> None:
    rig = streamed(rows=1, sandbox={**FOLLOWED, "faults": {"stream_drop": 0.7}})
    run = started(rig)
    followed = rig.call("follow", "r", "row-0", *CONFIGURED)
    assert rig.end(run).code == 0
    [(_, text)] = answers(rig)
    assert (followed.code, followed.out) == (0, f"{text}\n")


@pytest.mark.long
def test_what_is_not_streamed_is_followed_by_polling(
    rig: Callable[..., Rig], started: Callable[[Rig], subprocess.Popen[str]]
) -> None:
    plain = rig(rows=1, sandbox=FOLLOWED)
    run = started(plain)
    followed = plain.call("follow", "r", "row-0", *CONFIGURED)
    assert plain.end(run).code == 0
    [(_, text)] = answers(plain)
    assert (followed.code, followed.out) == (0, f"{text}\n")
    assert "polling instead" in followed.err
    # By the provider's word, or by ours where the run was faster.
    assert followed.err.splitlines()[-1] in ("completed", "succeeded")


def test_a_missing_row_is_reported(rig: Callable[..., Rig]) -> None:
    made = rig(rows=1)
    assert made.run().code == 0
    assert made.call("follow", "r", "row-9", *CONFIGURED).code == 2
