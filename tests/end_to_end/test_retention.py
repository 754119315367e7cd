"""Deleting at the provider and dropping here, as retention asks, against the real sandbox."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .rig import Ended, Rig

KEY = {"KEY": "sk-retention"}
AT = ("--db", "runs.db")
CONFIGURED = (*AT, "--config", "config.yaml")
NO_WAITING = {"latency": {"queue": 0, "run": 0.01}}


@pytest.fixture
def made(rig: Callable[..., Rig]) -> Callable[..., Rig]:
    """A finished run in an embedded sandbox; the keywords are the job's section."""

    def make(rows: int = 20, **retention: Any) -> Rig:
        rig_ = rig(rows=rows, sandbox=NO_WAITING, job={"output": "out.jsonl", "retention": retention})
        ended = rig_.run()
        assert ended.code == 0, ended.err
        return rig_

    return make


def purge(rig: Rig, *arguments: str, env: dict[str, str] | None = None) -> Ended:
    return rig.call("purge", *arguments, *CONFIGURED, "--json", env=env)


def test_a_purge_deletes_every_copy_and_checks_that_it_is_gone(made: Callable[..., Rig]) -> None:
    rig = made()
    ended = purge(rig, "r")
    assert ended.code == 0, ended.err
    assert ended.summary == {
        "run": "r",
        "deleted": {"responses": 20, "conversations": 0, "files": 0},
        "unknown": 0,
        "left": 0,
        "reason": None,
        "stopped": False,
        "unnamed": 0,
    }
    status = rig.call("status", "r", *AT, "--json").summary
    assert status["retention"]["deleted"]["responses"] == 20
    assert "20 responses gone at the provider" in rig.call("status", "r", *AT).out
    shown = rig.call("show", "r", "row-3", *AT)
    assert "deleted at the provider 20" in shown.out
    forgotten = rig.call("show", "r", "row-3", *CONFIGURED, "--input-items")
    assert (forgotten.code, "no longer knows" in forgotten.err) == (2, True)
    again = purge(rig, "r").summary
    assert (again["deleted"]["responses"], again["unknown"]) == (0, 0)
    assert rig.ledger()["deletes"]["calls"] == 20
    assert len((rig.folder / "out.jsonl").read_text().splitlines()) == 20


@pytest.mark.long
def test_conversations_go_with_what_was_said_in_them(rig: Callable[..., Rig], server: Callable[..., str]) -> None:
    base_url = server()
    chain = {"by": "talk", "order": "turn", "mode": "conversation"}
    request = {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 400}
    made = rig(
        config={"provider": {"base_url": base_url, "api_key_env": "KEY"}}, job={"chain": chain, "request": request}
    )
    made.write_rows({"id": f"{n}", "talk": f"t{n % 2}", "turn": n, "text": f"Question {n}?"} for n in range(6))
    ended = made.run(env=KEY)
    assert ended.code == 0, ended.err
    conversations = [name for (name,) in made.query("SELECT conversation_id FROM conversation")]
    purged = purge(made, "r", env=KEY)
    assert purged.summary["deleted"] == {"responses": 6, "conversations": 2, "files": 0}
    with httpx.Client(base_url=base_url, headers={"authorization": f"Bearer {KEY['KEY']}"}) as client:
        for conversation in conversations:
            assert client.get(f"/conversations/{conversation}").status_code == 404


@pytest.mark.long
def test_a_purge_is_refused_while_the_run_is_not_over(rig: Callable[..., Rig]) -> None:
    slow = rig(rows=6, sandbox={"latency": {"queue": 0, "run": 30}})
    slow.run_until(lambda: slow.settled("'submitted'") == 6, send=signal.SIGKILL)
    refused = purge(slow, "r")
    assert refused.code == 2
    assert "run 'r' is not over: 6 of its requests are open" in refused.err
    assert "orchestrator cancel r" in refused.err
    running = slow.start(*slow.run_arguments())
    try:
        held = _until(lambda: purge(slow, "r"), lambda ended: "is locked by" in ended.err)
        assert held.code == 2
    finally:
        running.kill()
        running.communicate()
    assert slow.call("cancel", "r", *CONFIGURED).code == 0
    assert purge(slow, "r").summary["deleted"]["responses"] == 6


@pytest.mark.long
def test_another_provider_is_not_asked(made: Callable[..., Rig], server: Callable[..., str]) -> None:
    rig = made(rows=2)
    rig.write_config({"provider": {"base_url": server(), "api_key_env": "KEY"}})
    refused = purge(rig, "r", env=KEY)
    assert refused.code == 2
    assert "the responses of run 'r' are at sandbox, and the config names http://127.0.0.1" in refused.err


@pytest.mark.long
def test_copies_that_the_provider_forgot_are_counted_apart(
    rig: Callable[..., Rig], server: Callable[..., str]
) -> None:
    base_url = server()
    made = rig(rows=4, config={"provider": {"base_url": base_url, "api_key_env": "KEY"}})
    assert made.run(env=KEY).code == 0
    [(gone,)] = made.query("SELECT response_id FROM attempt LIMIT 1")
    headers = {"authorization": f"Bearer {KEY['KEY']}"}
    assert httpx.delete(f"{base_url}/responses/{gone}", headers=headers).json()["deleted"] is True
    purged = purge(made, "r", env=KEY).summary
    assert (purged["deleted"]["responses"], purged["unknown"], purged["left"]) == (3, 1, 0)


@pytest.mark.long
def test_a_refused_key_stops_a_purge_at_once(rig: Callable[..., Rig], server: Callable[..., str]) -> None:
    made = rig(rows=4, config={"provider": {"base_url": server(), "api_key_env": "KEY"}})
    assert made.run(env=KEY).code == 0
    refused = purge(made, "r", env={"KEY": "sk-bad-key"})
    assert (refused.code, refused.summary["stopped"]) == (4, True)
    assert "refuses the key" in refused.summary["reason"]
    assert purge(made, "r", env=KEY).summary["deleted"]["responses"] == 4


@pytest.mark.long
def test_a_purge_that_is_killed_resumes_where_it_was(rig: Callable[..., Rig], server: Callable[..., str]) -> None:
    made = rig(
        rows=120,
        config={"provider": {"base_url": server(), "api_key_env": "KEY"}, "limits": {"polls_per_minute": 2400}},
    )
    assert made.run(env=KEY).code == 0

    def gone() -> int:
        return int(made.query("SELECT count(*) FROM deleted_copy")[0][0])

    for _ in range(2):
        before = gone()
        process = made.start("purge", "r", *CONFIGURED, "--json", env=KEY)
        _until(gone, lambda now, before=before: bool(now > before + 5))  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        made.end(process)
        assert before < gone() < 120
    last = purge(made, "r", env=KEY)
    assert last.code == 0, last.err
    assert (last.summary["left"], gone()) == (0, 120)
    # Only what was deleted in the very last moment was asked for twice.
    assert made.query("SELECT count(*) FROM deleted_copy WHERE NOT was_there")[0][0] <= 2 * 16
    assert made.query("SELECT count(DISTINCT provider_id) FROM deleted_copy") == [(120,)]


def test_copies_go_with_the_export(made: Callable[..., Rig]) -> None:
    rig = made(rows=5, provider="delete_after_export")
    assert rig.query("SELECT count(*) FROM deleted_copy") == [(5,)]
    assert purge(rig, "--due").out == "[]\n"


@pytest.mark.long
def test_copies_wait_for_an_export_to_a_file(rig: Callable[..., Rig]) -> None:
    made = rig(rows=5, sandbox=NO_WAITING, job={"retention": {"provider": "delete_after_export"}})
    ended = made.run()
    assert (ended.code, "names no output" in ended.err) == (0, True)
    assert made.call("export", "r", *AT).code == 0  # to standard output: whether it was kept is unknown
    assert purge(made, "--due").out == "[]\n"
    assert made.call("export", "r", *AT, "-o", "out.csv").code == 0
    [due] = json.loads(purge(made, "--due").out)
    assert (due["run"], due["deleted"]["responses"]) == ("r", 5)


@pytest.mark.long
def test_copies_go_when_their_time_is_over(made: Callable[..., Rig]) -> None:
    rig = made(rows=5, provider={"delete_after": "1s"})
    time.sleep(1.1)
    text = rig.call("purge", "--due", *CONFIGURED)
    assert text.out == "r: 5 responses deleted at the provider, and checked to be gone\n"


@pytest.mark.long
def test_inputs_are_dropped_after_the_export_and_cannot_be_tried_again(rig: Callable[..., Rig]) -> None:
    request = {"model": "sandbox-failed", "input": "{{ text }}"}
    job = {"request": request, "output": "out.jsonl", "retry": {"attempts": 1}, "retention": {"inputs": "drop"}}
    made = rig(rows=4, sandbox=NO_WAITING, job=job)
    assert made.run().code == 3
    assert made.query("SELECT count(*) FROM input_row WHERE data = ''") == [(4,)]
    refused = made.call("retry", "r", *AT)
    assert refused.code == 2
    assert "4 of these requests cannot be sent again: the data of their rows was dropped" in refused.err
    shown = made.call("show", "r", "row-1", *AT)
    assert "its data was dropped" in shown.out
    assert made.call("show", "r", "row-1", *AT, "--json").summary["row"] is None


def test_outputs_are_dropped_after_the_export_and_the_file_is_never_replaced(made: Callable[..., Rig]) -> None:
    rig = made(rows=4, outputs="drop")
    exported = (rig.folder / "out.jsonl").read_text()
    assert all(json.loads(line)["output_text"] for line in exported.splitlines())
    assert rig.query("SELECT count(*) FROM result") == [(0,)]
    assert "4 answers dropped" in rig.call("status", "r", *AT).out
    refused = rig.call("export", "r", *AT, "-o", "out.jsonl")
    assert (refused.code, "all that is left of them" in refused.err) == (2, True)
    assert rig.run().code == 2
    assert (rig.folder / "out.jsonl").read_text() == exported


@pytest.mark.long
def test_what_was_dropped_is_not_in_the_file_any_more(rig: Callable[..., Rig]) -> None:
    made = rig(
        rows=8, sandbox=NO_WAITING, job={"output": "out.jsonl", "retention": {"inputs": "drop", "outputs": "drop"}}
    )
    made.write_rows({"id": f"row-{n}", "text": f"Canary sentence {n}."} for n in range(8))
    assert made.run().code == 0
    assert "Canary sentence" in (made.folder / "out.jsonl").read_text()
    left = b"".join(path.read_bytes() for path in made.folder.glob("runs.db*") if "sandbox" not in path.name)
    assert b"Canary sentence" not in left


def test_purge_wants_a_run_or_what_is_due(rig: Callable[..., Rig]) -> None:
    made = rig(rows=1)
    assert made.call("purge", *AT).code == 2
    assert made.call("purge", "r", "--due", *AT).code == 2


def _until(read: Callable[[], Any], there: Callable[[Any], bool]) -> Any:
    while not there(found := read()):
        time.sleep(0.02)
    return found
