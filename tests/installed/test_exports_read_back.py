"""Exports as other programs read them: types, umlauts and digits are intact."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import Said

pytestmark = pytest.mark.services

Shell: TypeAlias = Callable[..., Said]

# More digits than a float holds, a key that looks like a number, and text that spreadsheets and parsers stumble on.
KEYS = ["0042", "12345678901234567890", "12345678901234567891", "Köln; Straße", '=1+1 "quoted"', "two\nlines"]
JOB = {
    "name": "kept",
    "input": {"path": "rows.jsonl", "key": "id"},
    "request": {
        "model": "gpt-6-luna",
        "input": "{{ id }}",
        "max_output_tokens": 2000,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "a",
                "strict": True,
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["text", "whole", "share", "sure"],
                    "properties": {
                        "text": {"type": "string"},
                        "whole": {"type": "integer"},
                        "share": {"type": "number"},
                        "sure": {"type": "boolean"},
                    },
                },
            }
        },
    },
}
READ = """\
import json, sys

import duckdb, pandas, polars

keys = json.loads(sys.argv[1])
frames = {
    "pandas csv": pandas.read_csv("out.csv", dtype={"key": str}).to_dict("records"),
    "pandas parquet": pandas.read_parquet("out.parquet").to_dict("records"),
    "pandas jsonl": pandas.read_json("out.jsonl", lines=True, dtype={"key": str}).to_dict("records"),
    "polars csv": polars.read_csv("out.csv", schema_overrides={"key": polars.String}).to_dicts(),
    "polars parquet": polars.read_parquet("out.parquet").to_dicts(),
    "polars jsonl": polars.read_ndjson("out.jsonl").to_dicts(),
}
for name, kind in (("csv", "read_csv('out.csv', types={'key': 'VARCHAR'})"), ("parquet", "'out.parquet'"),
                   ("jsonl", "read_json('out.jsonl')")):
    found = duckdb.sql(f"SELECT * FROM {kind}")
    frames[f"duckdb {name}"] = [dict(zip(found.columns, row)) for row in found.fetchall()]
for name, rows in frames.items():
    assert [row["key"] for row in rows] == keys, (name, [row["key"] for row in rows])
    assert {row["state"] for row in rows} == {"succeeded"}, name
    if name.endswith("jsonl"):
        answers = [row["output"] for row in rows]
    else:
        answers = [{field: row[f"output.{field}"] for field in ("text", "whole", "share", "sure")} for row in rows]
    for answer in answers:
        assert isinstance(answer["text"], str), (name, answer)
        assert int(answer["whole"]) == answer["whole"], (name, answer)
        assert float(answer["share"]) == answer["share"], (name, answer)
        assert answer["sure"] in (True, False), (name, answer)
print(json.dumps(sorted(frames)))
"""


@pytest.fixture
def exported(shell: Shell, tmp_path: Path) -> Path:
    """A folder with one run, exported in three formats."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": key}) + "\n" for key in KEYS))
    (tmp_path / "job.yaml").write_text(json.dumps(JOB))
    ran = shell("orchestrator", "run", "job.yaml", "--sandbox", "--run", "r")
    assert ran.code == 0, ran.err
    for suffix in ("csv", "parquet", "jsonl"):
        ended = shell("orchestrator", "export", "r", "-o", f"out.{suffix}", "--config", "sandbox")
        assert ended.code == 0, ended.err
    return tmp_path


def test_data_frames_and_duckdb_read_what_was_written(exported: Path, shell: Shell) -> None:
    (exported / "read.py").write_text(READ)
    ended = shell("python", "read.py", json.dumps(KEYS))
    assert ended.code == 0, ended.err[-2_000:]
    assert len(json.loads(ended.out)) == 9


def test_libreoffice_opens_the_csv(exported: Path) -> None:
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed, so nothing was tried: apt-get install libreoffice-calc-nogui")
    with (exported / "out.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    # Separator comma, quote ", UTF-8, from the first line; the columns of keys and answers (from 1) are text (2).
    columns = [list(written[0]).index(name) + 1 for name in ("key", "output.text")]
    as_text = "/".join(f"{column}/2" for column in columns)
    ended = subprocess.run(
        [
            office,
            f"-env:UserInstallation=file://{exported}/profile",
            "--headless",
            f"--infilter=CSV:44,34,76,1,{as_text}",
            "--convert-to",
            "csv:Text - txt - csv (StarCalc):44,34,76,1",
            "--outdir",
            str(exported / "back"),
            str(exported / "out.csv"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    with (exported / "back/out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["key"] for row in read] == KEYS
    assert [row["output.text"] for row in read] == [row["output.text"] for row in written]
