"""A row of which no request can be made fails alone; every command that reads rows says the same of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .conftest import RUN, Ended

_JOB = """\
name: odd
input: {path: rows.jsonl, key: id}
request:
  model: gpt-5-mini
  input:
    - role: user
      content:
        - {type: input_file, file_id: "{{ file | upload }}"}
        - {type: input_text, text: "{{ text | length }} letters"}
  max_output_tokens: "{{ n | int }}"
  metadata: {note: "{{ note }}"}
"""
_PLAIN = {"file": "a.txt", "text": "a", "n": "200", "note": "x"}
_ODD = {
    "digits": {"n": "12345678901234567890123"},
    "many-digits": {"n": "9" * 60},
    "long-name": {"file": "n" * 300 + ".txt"},
    "long-folder": {"file": "d" * 300 + "/a.txt"},
    "file-as-folder": {"file": "a.txt/../" + "e" * 256},
}


def write_odd_rows(folder: Path) -> None:
    rows = [{"id": "good", **_PLAIN}, *({"id": key, **_PLAIN, **odd} for key, odd in _ODD.items())]
    rows.append({"id": "last", **_PLAIN, "n": "201"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "a.txt").write_text("Some text.")
    (folder / "job.yaml").write_text(_JOB)


def test_each_odd_row_is_its_own_outcome(folder: Path, cli: Callable[..., Ended]) -> None:
    write_odd_rows(folder)
    dry = cli(*RUN, "--dry-run", "--json")
    assert dry.code == 3, dry.err
    shown = json.loads(dry.out)
    assert shown["rows"] == 2
    assert [row["where"] for row in shown["invalid"]] == [f"rows.jsonl:{n}" for n in range(2, 2 + len(_ODD))]

    ended = cli(*RUN, "--run", "r", "--json")
    assert ended.code == 3, ended.err
    assert "bug" not in ended.err
    summary = json.loads(ended.out)
    assert (summary["requests"]["succeeded"], summary["requests"]["failed"]) == (2, len(_ODD))

    exported = cli("export", "r", "--db", "runs.db", "--state", "failed")
    failed = [json.loads(line) for line in exported.out.splitlines()]
    assert {row["key"]: row["error"]["code"] for row in failed} == dict.fromkeys(_ODD, "row_invalid")
    reasons = [row["reason"] for row in shown["invalid"]]
    assert all(reason in row["error"]["message"] for row, reason in zip(failed, reasons, strict=True))
    assert cli("show", "r", "digits", "--db", "runs.db").code == 0
    assert cli("estimate", "job.yaml", "--config", "config.yaml").code == 0
