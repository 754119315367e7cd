"""What goes wrong before or at the first request: one message that says what, where and what to do, and no more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .rig import Ended, Rig

MakeRig = Callable[..., Rig]


def assert_reported(ended: Ended, code: int, *words: str) -> None:
    """One clear message, the right exit code, and no traceback."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err


def sent_nothing(at: Rig) -> bool:
    return not (at.folder / "runs.db.sandbox").exists() or at.ledger()["creates"]["calls"] == 0


def test_a_misspelt_field_names_file_line_and_the_right_one(rig: MakeRig) -> None:
    at = rig(rows=3)
    (at.folder / "job.yaml").write_text("name: speeches\ninput: {path: rows.jsonl}\nreqest:\n  model: gpt-5-mini\n")
    assert_reported(at.run(), 2, "job.yaml:3", "reqest", "request")
    assert sent_nothing(at)


def test_a_wrong_parameter_names_the_right_form(rig: MakeRig) -> None:
    at = rig(rows=3)
    at.write_job({**at.job, "request": {**at.job["request"], "max_tokens": 100}})
    assert_reported(at.run(), 2, "max_tokens", "max_output_tokens")
    assert sent_nothing(at)


def test_a_missing_input_file(rig: MakeRig) -> None:
    at = rig(rows=3)
    at.write_job({**at.job, "input": {"path": "nowhere.jsonl"}})
    assert_reported(at.run(), 2, "nowhere.jsonl", "hint:")


def test_a_missing_column_stops_before_anything_is_sent(rig: MakeRig) -> None:
    at = rig()
    at.write_rows([{"id": "a", "text": "Yes."}, {"id": "b", "txt": "No."}])
    assert_reported(at.run(), 2, "rows.jsonl:2", "text", "hint:")
    assert sent_nothing(at)


def test_a_duplicate_key_stops_and_stops_again(rig: MakeRig) -> None:
    at = rig()
    at.write_rows([{"id": "a", "text": "Yes."}, {"id": "b", "text": "No."}, {"id": "a", "text": "Again."}])
    assert_reported(at.run(), 2, "rows.jsonl:3", "'a'", "hint:")
    # A second run without a fix must not get past the row unseen.
    assert_reported(at.run(), 2, "rows.jsonl:3")
    assert sent_nothing(at)


def test_a_duplicate_key_is_skipped_where_the_job_says_so(rig: MakeRig) -> None:
    at = rig()
    at.write_rows([{"id": "a", "text": "Yes."}, {"id": "b", "text": "No."}, {"id": "a", "text": "Again."}])
    ended = at.run("--set", "input.on_bad_row=skip")
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 2
    assert at.query("SELECT source FROM skipped_row") == [("rows.jsonl:3",)]


def test_a_line_that_is_not_json(rig: MakeRig) -> None:
    at = rig()
    at.write_rows([{"id": "a", "text": "Yes."}, '{"id": "b", "text": '])
    assert_reported(at.run(), 2, "rows.jsonl:2", "JSON", "hint:")
    assert sent_nothing(at)


def test_a_bad_row_far_behind_loses_nothing_that_was_sent(rig: MakeRig) -> None:
    at = rig()
    good = [{"id": f"row-{n}", "text": f"Sentence {n}. Another one."} for n in range(1200)]
    at.write_rows([*good, "not JSON"])
    assert_reported(at.run(), 2, "rows.jsonl:1201")
    ended = at.run("--set", "input.on_bad_row=skip")
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 1200
    assert at.ledger()["creates"]["accepted"] == 1200


def test_a_fixed_file_resumes_where_the_bad_row_was(rig: MakeRig) -> None:
    at = rig()
    good = [{"id": f"row-{n}", "text": f"Sentence {n}. Another one."} for n in range(600)]
    at.write_rows([*good, "not JSON"])
    assert_reported(at.run(), 2, "rows.jsonl:601")
    at.write_rows([*good, {"id": "mended", "text": "A sentence."}])
    ended = at.run()
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 601
    assert at.ledger()["creates"]["accepted"] == 601


def test_no_key_names_the_sandbox(rig: MakeRig) -> None:
    at = rig(rows=3)
    at.write_config({})
    assert_reported(at.run(), 2, "OPENAI_API_KEY", "--config sandbox")
    assert not at.database.exists()


@pytest.mark.parametrize("key", ["sk-bad-key-0123456789"])
def test_a_wrong_key_halts_at_once(rig: MakeRig, server: Callable[..., str], key: str) -> None:
    at = rig(rows=300)
    at.write_config({"provider": {"base_url": server()}})
    ended = at.run(env={"OPENAI_API_KEY": key})
    assert_reported(ended, 4, "key")
    assert ended.summary["state"] == "halted"
    assert ended.summary["attempts"] == 0
    assert ended.summary["requests"]["pending"] == 300
    assert key not in ended.err + ended.out


def test_an_unknown_model_halts_rather_than_failing_every_row(rig: MakeRig) -> None:
    at = rig(rows=300)
    at.write_job({**at.job, "request": {**at.job["request"], "model": "gpt-17"}})
    ended = at.run()
    assert_reported(ended, 4, "gpt-17")
    assert ended.summary["requests"]["pending"] == 300
    assert at.ledger()["creates"]["accepted"] == 0


def test_a_missing_server_is_reported_within_seconds(rig: MakeRig, free_port: int) -> None:
    at = rig(rows=30)
    at.write_config({"provider": {"base_url": f"http://127.0.0.1:{free_port}/v1", "api_key_env": None}})
    ended = at.run()
    assert_reported(ended, 4, "cannot be reached", f"127.0.0.1:{free_port}")
    assert ended.summary["requests"]["pending"] == 30


def test_a_database_that_cannot_be_written(rig: MakeRig) -> None:
    at = rig(rows=3)
    ended = at.call("run", "job.yaml", "--config", "config.yaml", "--db", "no-such-folder/runs.db")
    assert_reported(ended, 5, "no-such-folder", "hint:")


def test_a_database_of_a_newer_version(rig: MakeRig) -> None:
    at = rig(rows=3)
    assert at.run().code == 0
    with sqlite3.connect(at.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert_reported(at.run(), 5, "999", "hint:")
    assert_reported(at.call("status", "--db", "runs.db"), 5, "999")


def test_a_file_that_is_no_database(rig: MakeRig) -> None:
    at = rig(rows=3)
    at.database.write_text("this is a letter, not a database, and it is long enough to be looked at\n" * 20)
    assert_reported(at.run(), 5, "runs.db", "hint:")


def test_a_changed_job_is_refused_with_what_changed(rig: MakeRig) -> None:
    at = rig(rows=5)
    assert at.run().code == 0
    ended = at.run("--set", "request.model=gpt-5-nano")
    assert_reported(ended, 2, "request.model", "hint:")


CANARY = "ZEBRA-CANARY-4711"
KEY = "sk-canary-0815-abcdefghijklmnop"


def test_no_prompt_and_no_key_where_they_do_not_belong(rig: MakeRig, server: Callable[..., str]) -> None:
    at = rig(sandbox={})
    rows: list[dict[str, Any]] = [{"id": f"r{n}", "text": f"{CANARY} is a word. So is this."} for n in range(20)]
    at.write_rows(rows)
    base_url = server("--fault", "failed_invalid_prompt=0.3", "--fault", "server_error=0.2")
    at.write_config({"provider": {"base_url": base_url}})
    environment = {"OPENAI_API_KEY": KEY, "ORCHESTRATOR_LOG": "debug", "ORCHESTRATOR_LOG_FORMAT": "json"}
    ended = at.run(env=environment)
    assert ended.code in (0, 3), ended.err
    assert KEY not in ended.err + ended.out
    assert CANARY not in ended.err + ended.out
    everything = b"".join(each.read_bytes() for each in at.folder.iterdir() if each.name.startswith("runs.db"))
    assert KEY.encode() not in everything
    assert not tables_with(at.database, CANARY) - {"input_row", "result"}


def tables_with(database: Path, word: str) -> set[str]:
    """The tables of a database that hold a word in any of their columns."""
    found = set()
    with sqlite3.connect(database) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            for row in connection.execute(f"SELECT * FROM {name}"):  # noqa: S608
                if any(word in str(value) for value in row):
                    found.add(name)
    connection.close()
    return found


def test_stored_specs_are_json(rig: MakeRig) -> None:
    at = rig(rows=2)
    at.run()
    ((spec,),) = at.query("SELECT spec FROM run")
    assert json.loads(spec)["name"] == "speeches"
