"""Numbers of input files keep their digits on the way into a request, and no field of a file is lost silently."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.core.exact_json import dumps
from orchestrator.core.model import PlanMark
from orchestrator.executors.background import create_body
from orchestrator.job.requests.compose import RequestRules, compose_first, fingerprint
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.header import refuse_missing_columns
from orchestrator.job.rows.keyed_rows import Row, open_rows
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job

from .builders import MakeJob, Write

pytest.importorskip("arro3.io")

from arro3.core import Array, DataType, Field, RecordBatch, Schema
from arro3.io import write_parquet

BIG = "123456789012345678901"
FINE = "0.1000000000000000055511151231257827"


def requests(job: Job) -> list[tuple[str, dict[str, Any]]]:
    renderer = Renderer(job)
    start = PlanMark(position=0, complete=False)
    return [
        (row.key, compose_first(renderer, RequestRules(), row.row, where=row.where))
        for batch in plan(job, renderer, start=start)
        for row in batch.rows
    ]


def reasons(job: Job) -> list[str | None]:
    return [None if isinstance(row, Row) else row.reason for row in open_rows(job)]


@pytest.mark.parametrize("number", [BIG, FINE, "1e400", "18446744073709551617"])
def test_digits_reach_key_and_prompt(write: Write, make_job: MakeJob, number: str) -> None:
    write("rows.jsonl", f'{{"id": {number}, "in": [{{"n": {number}}}]}}\n')
    request = {"model": "gpt-5-mini", "input": "{{ id }} {{ in }} {{ in | tojson }} {{ in[0].n ~ '' }}"}
    [(key, fields)] = requests(make_job(path="rows.jsonl", key="id", request=request))
    assert key == number
    assert fields["input"] == f'{number} [{{"n":{number}}}] [{{"n":{number}}}] {number}'


def test_ids_beyond_64_bits_are_distinct(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", "".join(f'{{"id": {2**64 + n}}}\n' for n in (1, 2)))
    request = {"model": "gpt-5-mini", "input": "id {{ id }}"}
    made = requests(make_job(path="rows.jsonl", key="id", request=request))
    assert [key for key, _ in made] == [str(2**64 + 1), str(2**64 + 2)]


@pytest.mark.parametrize(("one", "other"), [(f"{2**64 + 1}", f"{2**64 + 2}"), (FINE, FINE[:-1])])
def test_a_batch_line_sends_its_digits(write: Write, make_job: MakeJob, one: str, other: str) -> None:
    line = (
        '{"custom_id": %s, "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-5-mini", "input": "x",'
        ' "text": {"format": {"type": "json_schema", "name": "n", "schema": {"maximum": %s}}}}}\n'
    )
    write("rows.jsonl", line % (BIG, one) + line % ("2", other))
    made = requests(make_job(path="rows.jsonl", request={}))
    assert [key for key, _ in made] == [BIG, "2"]
    bodies = [create_body(fields, run_uid="u", key=key, number=1) for key, fields in made]
    assert f'"maximum":{one}}}'.encode() in bodies[0]
    first, second = (fingerprint(fields, provider="p") for _, fields in made)
    assert first != second


def test_a_number_alone_in_a_field_keeps_its_digits(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", f'{{"n": {BIG}, "f": {FINE}}}\n')
    request = {"model": "gpt-5-mini", "input": "x", "extra": {"n": "{{ n }}", "both": "{{ [n, f] }}"}}
    [(_, fields)] = requests(make_job(path="rows.jsonl", request=request))
    assert dumps(fields["extra"]) == f'{{"n":{BIG},"both":[{BIG},{FINE}]}}'.encode()


def test_a_schema_of_the_job_keeps_its_digits(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", "{}\n")
    shape = {"type": "json_schema", "name": "n", "schema": {"type": "object", "maximum": int(BIG)}}
    job = make_job(path="rows.jsonl", request={"model": "gpt-5-mini", "input": "x", "text": {"format": shape}})
    again = Job.model_validate_json(job.model_dump_json())
    for each in (job, again):
        assert f'"maximum":{BIG}'.encode() in dumps(each.request)


@pytest.mark.parametrize("line", ['{"id": 1, "text": "a", "text": "b"}', '{"id": 1, "in": {"x": "a: b", "x": 2}}'])
def test_a_repeated_field_is_refused(write: Write, make_job: MakeJob, line: str) -> None:
    write("rows.jsonl", line + "\n")
    assert reasons(make_job(path="rows.jsonl")) == ["an object in the line has two fields of the same name"]


def test_no_number_is_null_where_nothing_reads_it(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", '{"id": 1, "text": "one", "score": NaN}\n{"id": 2, "text": "two", "score": -Infinity}\n')
    assert [key for key, _ in requests(make_job(path="rows.jsonl", key="id"))] == ["1", "2"]


def test_marks_and_repeated_headers_of_joined_files_are_passed_over(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", "\ufeffid,text\r\n1,one\r\n\ufeff2,two\r\n\ufeffid,text\r\n3,three\r\nid,text\r\n")
    rows = list(open_rows(make_job(path="rows.csv", key="id")))
    assert [row.key for row in rows if isinstance(row, Row)] == ["1", "2", "3", "id"]
    write("rows.jsonl", '\ufeff{"id": 1}\n\ufeff{"id": 2}\n')
    assert [row.key for row in open_rows(make_job(path="rows.jsonl", key="id")) if isinstance(row, Row)] == ["1", "2"]


def test_a_mark_before_a_quoted_field(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", 'id,text\n1,one\n\ufeff"2, or so",two\n')
    assert [row.key for row in open_rows(make_job(path="rows.csv", key="id")) if isinstance(row, Row)] == [
        "1",
        "2, or so",
    ]


def test_empty_columns_and_rows_at_the_end_are_passed_over(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", "id,text,,\r\n1,one,,\r\n2,two\r\n,,,\r\n3,three,\r\n,,,\r\n")
    rows = [row for row in open_rows(make_job(path="rows.csv", key="id")) if isinstance(row, Row)]
    assert [row.data for row in rows] == [
        {"id": n, "text": t} for n, t in (("1", "one"), ("2", "two"), ("3", "three"))
    ]


def test_a_field_beyond_the_header_is_not_lost(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", "id,text,\n1,one,more\n")
    assert reasons(make_job(path="rows.csv")) == ["the row has 3 fields, and the header names 2 columns"]


def test_a_wide_header_is_read_in_one_pass(write: Write, make_job: MakeJob) -> None:
    columns = [f"c{number}" for number in range(30_000)]
    write("rows.csv", ",".join(columns) + "\n" + ",".join("1" * 30_000) + "\n")
    [row] = open_rows(make_job(path="rows.csv"))
    assert isinstance(row, Row)
    assert len(row.data) == 30_000


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────


def write_table(path: Path, columns: Mapping[str, Array]) -> None:
    fields = [Field(name, array.type) for name, array in columns.items()]
    write_parquet(RecordBatch(list(columns.values()), schema=Schema(fields)), path)


def test_a_column_that_nothing_reads_may_hold_anything(make_job: MakeJob, tmp_path: Path) -> None:
    text = Array(["one", "two"], type=DataType.string())
    unread = Array([b"\x89PNG", b"x"], type=DataType.binary())
    late = Array([2**31 - 1, 0], type=DataType.int32()).cast(DataType.date32())
    write_table(tmp_path / "rows.parquet", {"id": text, "text": text, "thumb": unread, "late": late})
    job = make_job(path="rows.parquet", key="id")
    refuse_missing_columns(job, Renderer(job))
    assert [(key, fields["input"]) for key, fields in requests(job)] == [
        ("one", "Summarise: one"),
        ("two", "Summarise: two"),
    ]


def test_a_moment_out_of_range_never_becomes_null(make_job: MakeJob, tmp_path: Path) -> None:
    moments = [1, None, 10**12]
    seconds = Array(moments, type=DataType.int64())
    columns = {
        "at": seconds.cast(DataType.timestamp("s")),
        "day": Array([1, None, 2**31 - 1], type=DataType.int32()).cast(DataType.date32()),
        "time": seconds.cast(DataType.time64("us")),
    }
    for name, column in columns.items():
        write_table(tmp_path / "rows.parquet", {name: column})
        first, second, third = open_rows(make_job(path="rows.parquet"))
        assert isinstance(first, Row)
        assert isinstance(second, Row)
        assert second.data[name] is None
        assert not isinstance(third, Row)
        assert third.reason == f'the column "{name}" holds a moment that is out of range'


@pytest.mark.parametrize(
    ("kind", "count", "text"),
    [
        (DataType.timestamp("ns"), 1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789"),
        (DataType.timestamp("ns", tz="UTC"), 1, "1970-01-01T00:00:00.000000001+00:00"),
        (DataType.timestamp("ns", tz="Europe/Berlin"), 1_001, "1970-01-01T01:00:00.000001001+01:00"),
        (DataType.timestamp("ns", tz="UTC"), 1_000_000_000, "1970-01-01T00:00:01+00:00"),
        (DataType.timestamp("ns"), 5_000, "1970-01-01T00:00:00.000005"),
        (DataType.time64("ns"), 3_600_000_000_007, "01:00:00.000000007"),
    ],
)
def test_a_moment_keeps_its_nanoseconds(
    make_job: MakeJob, tmp_path: Path, kind: DataType, count: int, text: str
) -> None:
    moments = Array([count, None], type=DataType.int64()).cast(kind)
    write_table(tmp_path / "rows.parquet", {"at": moments})
    found = [row.data["at"] for row in open_rows(make_job(path="rows.parquet")) if isinstance(row, Row)]
    assert found == [text, None]


def test_a_repeated_column_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    text = Array(["one"], type=DataType.string())
    schema = Schema([Field("text", text.type), Field("text", text.type)])
    write_parquet(RecordBatch([text, text], schema=schema), tmp_path / "rows.parquet")
    with pytest.raises(SpecError, match='the column "text" more than once'):
        list(open_rows(make_job(path="rows.parquet")))
