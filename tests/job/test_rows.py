from __future__ import annotations

import builtins
import gzip
import json
import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.keyed_rows import Row, UnreadableRow, input_identity, open_rows
from orchestrator.job.spec import Input, Job

from .builders import MakeJob, Write, batch_line, lines, shown

THREE = lines({"id": "a", "text": "1"}, {"id": "b", "text": "2"}, {"id": "c", "text": "3"})
CSV = 'id,text\na,"one\nof two lines"\n\nb,2\r\nc,"3 ""three"""\n'


def read(job: Job, **options: Any) -> list[Row | UnreadableRow]:
    return list(open_rows(job, **options))


def data(rows: list[Row | UnreadableRow]) -> list[dict[str, Any]]:
    return [row.data for row in rows if isinstance(row, Row)]


# ── Formats ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "ROWS.JSONL"])
def test_lines_of_json(write: Write, make_job: MakeJob, tmp_path: Path, name: str) -> None:
    write(name, '{"id": "a", "text": "1"}\n\n   \n{"id": "b", "text": "2"}')
    rows = read(make_job(path=name, key="id"))
    assert shown(rows, tmp_path) == [(f"{name}:1", "a"), (f"{name}:4", "b")]
    assert [row.position for row in rows] == [0, 1]
    assert data(rows) == [{"id": "a", "text": "1"}, {"id": "b", "text": "2"}]


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_csv_with_quoted_line_breaks(write: Write, make_job: MakeJob, tmp_path: Path, name: str) -> None:
    write(name, CSV)
    rows = read(make_job(path=name, key="id"))
    assert shown(rows, tmp_path) == [(f"{name}:2", "a"), (f"{name}:5", "b"), (f"{name}:6", "c")]
    assert [row["text"] for row in data(rows)] == ["one\nof two lines", "2", '3 "three"']


def test_a_csv_field_may_be_a_long_document(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", f"id,text\na,{'x' * 1_000_000}\n")
    [row] = data(read(make_job(path="rows.csv")))
    assert len(row["text"]) == 1_000_000


@pytest.mark.parametrize("name", ["letters/b.txt", "letters/b.txt.gz"])
def test_each_text_file_is_a_row(write: Write, make_job: MakeJob, tmp_path: Path, name: str) -> None:
    write("letters/a.txt", "Dear A,\r\n")
    write(name, "\ufeffDear B,\n")
    write("letters/.hidden.txt", "no")
    rows = read(make_job(path="letters/*", format="text"))
    assert shown(rows, tmp_path) == [("letters/a.txt", "letters/a.txt"), (name, name)]
    assert data(rows) == [
        {"name": "a.txt", "path": "letters/a.txt", "text": "Dear A,\r\n"},
        {"name": "b.txt", "path": name, "text": "Dear B,\n"},
    ]


def test_markdown_in_any_depth(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    for name in ("docs/z.md", "docs/a/b.md", "docs/a/c.txt"):
        write(name, name)
    rows = read(make_job(path="docs/**/*.md"))
    assert [key for _, key in shown(rows, tmp_path)] == ["docs/a/b.md", "docs/z.md"]


def test_a_batch_file_is_known_by_its_first_line(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "input": "x",
        "background": False,
        "stream": True,
        "stream_options": {},
        "store": True,
    }
    write("batch.jsonl.gz", "\n" + lines(batch_line("a", **body), batch_line("b")))
    rows = read(make_job(path="batch.jsonl.gz", request={}))
    assert shown(rows, tmp_path) == [("batch.jsonl.gz:2", "a"), ("batch.jsonl.gz:3", "b")]
    assert data(rows)[0] == {"custom_id": "a", "body": {"model": "m", "input": "x", "store": True}}


def test_a_batch_file_can_be_read_as_plain_lines(write: Write, make_job: MakeJob) -> None:
    write("batch.jsonl", lines(batch_line("a")))
    job = make_job(path="batch.jsonl", format="jsonl", request={"model": "m", "input": "{{ body.input }}"})
    assert data(read(job)) == [batch_line("a")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            batch_line(url="/v1/chat/completions"),
            '"url" must be /v1/responses; lines for other endpoints cannot run here',
        ),
        ({**batch_line(), "url": None}, '"url" must be /v1/responses; lines for other endpoints cannot run here'),
        ({**batch_line(), "method": "GET"}, '"method" must be POST'),
        ({**batch_line(), "body": "x"}, '"body" must be an object: the request'),
        ({**batch_line(), "custom_id": ""}, 'the key in column "custom_id" is empty; a key must be text or a number'),
    ],
)
def test_wrong_batch_lines(write: Write, make_job: MakeJob, line: dict[str, Any], reason: str) -> None:
    write("batch.jsonl", lines(batch_line(), line))
    [_, row] = read(make_job(path="batch.jsonl", request={}))
    assert isinstance(row, UnreadableRow)
    assert row.reason == reason


def test_standard_input(make_job: MakeJob, tmp_path: Path) -> None:
    stdin = BytesIO(THREE.encode())
    rows = read(make_job(path="-", key="id"), stdin=stdin)
    assert shown(rows, tmp_path) == [("stdin:1", "a"), ("stdin:2", "b"), ("stdin:3", "c")]
    assert not stdin.closed


@pytest.mark.parametrize(
    ("format_", "content", "expected"),
    [
        ("csv", b"text\nx\n", {"text": "x"}),
        ("text", b"\xef\xbb\xbfall of it\n", {"name": "-", "path": "-", "text": "all of it\n"}),
        ("openai-batch", lines(batch_line()).encode(), {"custom_id": "a", "body": batch_line()["body"]}),
    ],
)
def test_standard_input_in_other_formats(
    make_job: MakeJob, format_: str, content: bytes, expected: dict[str, Any]
) -> None:
    [row] = data(read(make_job(path="-", format=format_), stdin=BytesIO(content)))
    assert row == expected


def test_standard_input_is_that_of_the_process_unless_given(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        buffer = BytesIO(b'{"text": "x"}\n')

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert data(read(make_job(path="-"))) == [{"text": "x"}]


# ── What cannot be read ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": CANARY}', "the line is not valid JSON (column 10)"),
        (b'{"text": "CANARY"', "the line is not valid JSON (column 19)"),
        (b'{"text": "CANARY"} x', "the line is not valid JSON (column 20)"),
        (b'["CANARY"]', "the line holds JSON, but not an object; one {…} must stand on each line"),
        (b'"CANARY"', "the line holds JSON, but not an object; one {…} must stand on each line"),
        (b'{"text": "CANARY \xe4"}', "the line is not UTF-8 text (byte 18)"),
    ],
)
def test_bad_lines_of_json(write: Write, make_job: MakeJob, line: bytes, reason: str) -> None:
    write("rows.jsonl", b'{"text": "1"}\n' + line + b'\n{"text": "3"}\n')
    first, bad, last = read(make_job())
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, UnreadableRow)
    assert (bad.position, bad.where.rpartition(":")[2], bad.reason) == (1, "2", reason)


@pytest.mark.parametrize(
    ("row", "reason", "line_of_next"),
    [
        (b"a", "the row has 1 fields, and the header names 2 columns", 4),
        (b"a,CANARY,c", "the row has 3 fields, and the header names 2 columns", 4),
        (b'a,"CANARY" x', "the row is not valid CSV: ',' expected after '\"'", 4),
        (b"a,CANARY \xe4", "the text in line 3 is not UTF-8", 4),
        (b'a,"CANARY\n\xe4"', "the text in line 4 is not UTF-8", 5),
    ],
)
def test_bad_rows_of_csv(
    write: Write, make_job: MakeJob, tmp_path: Path, row: bytes, reason: str, line_of_next: int
) -> None:
    write("rows.csv", b"id,text\nx,1\n" + row + b"\ny,2\n")
    assert shown(read(make_job(path="rows.csv", key="id")), tmp_path) == [
        ("rows.csv:2", "x"),
        ("rows.csv:3", f"! {reason}"),
        (f"rows.csv:{line_of_next}", "y"),
    ]


def test_an_open_quote_swallows_the_rest_and_is_reported_where_it_begins(
    write: Write, make_job: MakeJob, tmp_path: Path
) -> None:
    write("rows.csv", 'id,text\na,"CANARY\nb,2\nc,3\n')
    assert shown(read(make_job(path="rows.csv")), tmp_path) == [
        ("rows.csv:2", "! the row is not valid CSV: unexpected end of data")
    ]


def test_a_text_file_in_another_encoding(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    write("a.txt", "one\ntwo äö".encode("latin-1"))
    assert shown(read(make_job(path="*.txt")), tmp_path) == [("a.txt", "! the text in line 2 is not UTF-8")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt"])
def test_utf16_is_refused(write: Write, make_job: MakeJob, name: str) -> None:
    path = write(name, 'id,text\n{"text": "x"}\n'.encode("utf-16"))
    with pytest.raises(SpecError) as caught:
        read(make_job(path=name))
    assert str(caught.value).endswith(f"{path}:1: the file is UTF-16 text\n  hint: save it as UTF-8")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write, make_job: MakeJob, name: str) -> None:
    write(name, "\ufeff" + {"rows.jsonl": '{"text": "x"}\n', "rows.csv": "text\nx\n"}[name])
    assert data(read(make_job(path=name))) == [{"text": "x"}]


def test_a_compressed_file_that_is_cut_short(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    whole = gzip.compress("".join(f'{{"text": "{i}{os.urandom(30).hex()}"}}\n' for i in range(2000)).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpecError, match=r"rows\.jsonl\.gz: the compressed file is damaged or cut short"):
        read(make_job(path="rows.jsonl.gz"))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.gz", "rows.txt.gz"])
def test_a_file_that_is_not_compressed_as_its_name_says(make_job: MakeJob, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"text": "CANARY"}\n')
    with pytest.raises(SpecError, match="the file is not compressed with gzip") as caught:
        read(make_job(path=name))
    assert "CANARY" not in str(caught.value)


def test_a_file_that_may_not_be_read(write: Write, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows.csv", CSV)
    job = make_job(path="rows.csv")

    def refused(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SpecError) as caught:
        read(job)
    assert str(caught.value) == f"{path}: the file cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"id,text,id", 'the header names the column "id" more than once'),
        (b"id,\xe4", "the header cannot be read: the text in line 1 is not UTF-8"),
    ],
)
def test_a_wrong_header(write: Write, make_job: MakeJob, header: bytes, message: str) -> None:
    write("rows.csv", header + b"\na,b,c\n")
    with pytest.raises(SpecError, match=f"rows.csv:1: {message}"):
        read(make_job(path="rows.csv"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_empty_file_has_no_rows(write: Write, make_job: MakeJob, name: str) -> None:
    write(name, "")
    assert read(make_job(path=name)) == []


def test_a_file_that_went_away_after_the_job_was_loaded(write: Write, make_job: MakeJob) -> None:
    path = write("rows.jsonl", THREE)
    job = make_job()
    path.unlink()
    with pytest.raises(SpecError, match="there is no file"):
        read(job)


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "key"), [("a", "a"), (" a ", " a "), (7, "7"), (1.5, "1.5"), ("é" * 512, "é" * 512)]
)
def test_keys_are_text(write: Write, make_job: MakeJob, value: object, key: str) -> None:
    write("rows.jsonl", lines({"id": value, "text": "x"}))
    [row] = read(make_job(key="id"))
    assert isinstance(row, Row)
    assert row.key == key


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": ""}, 'the key in column "id" is empty; a key must be text or a number'),
        ({"id": "  "}, 'the key in column "id" is empty; a key must be text or a number'),
        ({"id": None}, 'the key in column "id" is empty; a key must be text or a number'),
        ({"id": True}, 'the key in column "id" is a bool; a key must be text or a number'),
        ({"id": ["CANARY"]}, 'the key in column "id" is a list; a key must be text or a number'),
        ({"id": {"a": "CANARY"}}, 'the key in column "id" is a dict; a key must be text or a number'),
        ({"id": "CANARY" * 100}, 'the key in column "id" is longer than 512 characters'),
        ({"idd": "CANARY"}, 'the row has no column "id", which must be its key; did you mean "idd"?'),
        (
            {"name": "CANARY", "x" * 50: 1},
            f'the row has no column "id", which must be its key; its columns are: name, {"x" * 40}…',
        ),
    ],
)
def test_a_row_without_a_usable_key_is_bad(write: Write, make_job: MakeJob, row: dict[str, Any], reason: str) -> None:
    write("rows.jsonl", lines(row))
    [bad] = read(make_job(key="id"))
    assert isinstance(bad, UnreadableRow)
    assert bad.reason == reason


def test_without_a_key_the_line_number_is_taken(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", "\n" + THREE)
    write("rows.csv", CSV)
    assert [row.key for row in read(make_job()) if isinstance(row, Row)] == ["2", "3", "4"]
    assert [row.key for row in read(make_job(path="rows.csv")) if isinstance(row, Row)] == ["2", "5", "6"]


def test_line_numbers_of_several_files_bear_the_file(write: Write, make_job: MakeJob) -> None:
    write("part/1.jsonl", THREE)
    write("part/2.jsonl", THREE)
    rows = read(make_job(path="part/*.jsonl"))
    assert [row.key for row in rows if isinstance(row, Row)][2:4] == ["part/1.jsonl:3", "part/2.jsonl:1"]
    assert [row.position for row in rows] == list(range(6))


def test_a_name_with_the_characters_of_a_pattern_is_a_name(write: Write, make_job: MakeJob) -> None:
    write("rows[1].jsonl", lines({"text": "x"}))
    [row] = read(make_job(path="rows[1].jsonl"))
    assert isinstance(row, Row)
    assert row.key == "1"


# ── Going on, limit, identity ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["part/*.jsonl", "rows.csv", "letters/*.txt", "batch.jsonl", "table.parquet"])
def test_going_on_from_any_row_reads_the_same_rows(
    write: Write, make_job: MakeJob, tmp_path: Path, path: str
) -> None:
    write("part/1.jsonl", THREE + "not json\n")
    write("part/2.jsonl", THREE)
    write("rows.csv", CSV + "x\n")
    for name in "abcd":
        write(f"letters/{name}.txt", name)
    write("batch.jsonl", lines(*(batch_line(name) for name in "abcd")))
    write_parquet(tmp_path / "table.parquet", 25_000)
    job = make_job(path=path, request={"model": "m", "input": "x"})
    every = read(job)
    for start in {0, 1, 2, 3, len(every) - 1, len(every), len(every) + 5}:
        assert read(job, start=start) == every[start:]


def test_the_limit_counts_rows_from_the_first_one(write: Write, make_job: MakeJob) -> None:
    write("a.jsonl", "bad\n" + THREE)
    write("b.jsonl", THREE)
    job = make_job(path="*.jsonl", limit=5)
    assert [row.position for row in read(job)] == [0, 1, 2, 3, 4]
    assert [row.position for row in read(job, start=3)] == [3, 4]
    assert read(job, start=5) == []


def test_rows_passed_over_are_not_parsed(write: Write, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    write("rows.jsonl", "bad\n" * 10 + THREE)
    [first, *_] = open_rows(make_job(), start=10)
    assert isinstance(first, Row)
    assert (first.position, first.data["text"]) == (10, "1")


def test_the_identity_of_the_input(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    path = write("rows.jsonl", THREE)
    job = make_job()
    before = input_identity(job)
    assert before.startswith(f"1 file, {len(THREE)} bytes, sha256 ")
    assert input_identity(make_job()) == before
    path.write_text(THREE.replace("3", "4"))
    assert input_identity(job) != before
    write("more.jsonl", THREE)
    assert input_identity(make_job(path="*.jsonl")).startswith("2 files, ")
    assert input_identity(make_job(path="-")) == "stdin"


@pytest.mark.parametrize(("place", "seen"), [(0, True), (65_000, True), (100_000, False), (199_999, True)])
def test_only_the_ends_of_a_large_file_are_compared(write: Write, make_job: MakeJob, place: int, seen: bool) -> None:
    content = bytearray(b'{"text": "x"}\n'.ljust(200_000))
    path = write("rows.jsonl", bytes(content))
    before = input_identity(make_job())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    assert (input_identity(Job(name="a", input=Input(path=str(path)))) == before) is False
    assert (input_identity(make_job(format="jsonl")) != before) is seen


def test_the_identity_moves_with_the_folder(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    write("one/rows.jsonl", THREE)
    write("two/rows.jsonl", THREE)
    spec = json.dumps({"name": "a", "input": {"path": "rows.jsonl"}, "request": {"model": "m", "input": "x"}})
    from orchestrator.job.spec import load_job

    one, two = (load_job(write(f"{folder}/job.yaml", spec)) for folder in ("one", "two"))
    assert input_identity(one) == input_identity(two)


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────


def write_parquet(path: Path, count: int) -> None:
    core = pytest.importorskip("arro3.core")
    io = pytest.importorskip("arro3.io")
    table = core.Table.from_pydict(
        {
            "id": core.Array(list(range(count)), type=core.DataType.int64()),
            "text": core.Array([f"text {i}" for i in range(count)], type=core.DataType.string()),
        }
    )
    io.write_parquet(table, str(path))


def test_parquet(make_job: MakeJob, tmp_path: Path) -> None:
    write_parquet(tmp_path / "table.parquet", 25_000)
    rows = read(make_job(path="table.parquet", key="id"))
    assert len(rows) == 25_000
    assert shown(rows[-1:], tmp_path) == [("table.parquet:25000", "24999")]
    assert data(rows)[-1] == {"id": 24_999, "text": "text 24999"}


def test_parquet_values_become_those_of_json(make_job: MakeJob, tmp_path: Path) -> None:
    core, io = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    kinds = core.DataType
    whole = core.Array([1_600_000_000_000_000], type=kinds.int64())
    columns = {
        "none": core.Array([None], type=kinds.string()),
        "flag": core.Array([True], type=kinds.bool()),
        "nan": core.Array([float("nan")], type=kinds.float64()),
        "at": whole.cast(kinds.timestamp("us", tz="UTC")),
        "price": whole.cast(kinds.decimal128(20, 2)),
        "list": whole.cast(kinds.list(core.Field("item", kinds.int64(), nullable=True))),
    }
    io.write_parquet(core.Table.from_pydict(columns), str(tmp_path / "table.parquet"))
    [row] = data(read(make_job(path="table.parquet")))
    assert row == {
        "none": None,
        "flag": True,
        "nan": None,
        "at": "2020-09-13T12:26:40+00:00",
        "price": "1600000000000000.00",
        "list": [1_600_000_000_000_000],
    }
    io.write_parquet(
        core.Table.from_pydict({"b": core.Array([b"x"], type=kinds.binary())}), str(tmp_path / "b.parquet")
    )
    [bad] = read(make_job(path="b.parquet"))
    assert isinstance(bad, UnreadableRow)
    assert bad.reason == 'the column "b" holds bytes, which JSON does not have'


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,text\n", b"PAR1" + b"x" * 50])
def test_what_is_no_parquet_is_refused(write: Write, make_job: MakeJob, content: bytes) -> None:
    path = write("table.parquet", content)
    with pytest.raises(SpecError) as caught:
        read(make_job(path="table.parquet"))
    assert str(caught.value) == f"{path}: the file is not parquet, or was cut short"


def test_a_damaged_parquet_file(make_job: MakeJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.parquet"
    write_parquet(path, 100)
    content = bytearray(path.read_bytes())
    content[-8:-4] = b"\xff\xff\xff\x7f"
    path.write_bytes(bytes(content))
    with pytest.raises(SpecError, match="the parquet file is damaged"):
        read(make_job(path="table.parquet"))


def test_without_the_extra_parquet_says_what_to_install(
    make_job: MakeJob, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("table.parquet", b"")
    real_import: Callable[..., Any] = builtins.__import__

    def without_arro3(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("arro3"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_arro3)
    with pytest.raises(SpecError, match=r"hint: pip install 'responses-orchestrator\[parquet\]'"):
        read(make_job(path="table.parquet"))


# ── Anything at all ───────────────────────────────────────────────────────────────────────────────────────────


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["jsonl", "csv", "txt"]))
def test_any_bytes_are_rows_bad_rows_or_a_clear_refusal(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content)
    try:
        rows = read(Job(name="a", input=Input(path=str(path))))
    except SpecError:
        # UTF-16, or a header that names a column twice.
        return
    assert [row.position for row in rows] == list(range(len(rows)))
    assert len({row.where for row in rows}) == len(rows)
