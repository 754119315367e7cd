"""Exports hold every row once, in order, in the documented format, and appear only when complete."""

from __future__ import annotations

import csv
import io
import json
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from orchestrator.core.errors import UsageError
from orchestrator.core.states import State
from orchestrator.report import export, parquet_file
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.report.output_file import ProtectedFile, check_target, whole_file
from orchestrator.stores.reads import ResultRecord

pytestmark = pytest.mark.anyio
Build: TypeAlias = Callable[..., ResultRecord]
Stream: TypeAlias = Callable[[Iterable[ResultRecord]], AsyncIterator[ResultRecord]]

CONTRACT = """
{"key":"row-1","state":"succeeded","output_text":"Grüße,\\n\\"you\\"","output":null,"error":null,"response_id":"resp_a",
 "model":"gpt-5-mini-2025-08-07","service_tier":"default","status":"completed","attempts":1,
 "usage":{"input_tokens":1000,"cached_tokens":200,"cache_write_tokens":10,"output_tokens":50,"reasoning_tokens":20,
          "total_tokens":1050,"cache_write_12h_tokens":0},
 "cost_usd":"0.000001","submitted_at":"2026-11-21T20:00:00Z","settled_at":"2026-11-21T20:00:03Z",
 "reused":false,"cost_upper_bound_usd":null,"cost_estimated":false,"lane":"background",
 "flag":null,"note":null}
"""
FAILED = {
    "state": State.FAILED,
    "code": "content_filter",
    "message": "stopped",
    "output_text": None,
    "usage": None,
    "cost_pusd": None,
    "upper_bound_pusd": 2_000_000,
    "possible_duplicates": 1,
    "response_id": None,
    "settled_at": None,
}


async def test_a_line_has_the_keys_of_the_contract_in_order(a_result: Build, stream: Stream) -> None:
    out = io.BytesIO()
    assert await export.write_jsonl(stream([a_result()]), out) == 1
    assert json.dumps(json.loads(out.getvalue())) == json.dumps(json.loads(CONTRACT))
    assert out.getvalue().endswith(b"}\n")


async def test_a_failed_row_has_its_error_and_nulls_for_unknown_values(a_result: Build, stream: Stream) -> None:
    out = io.BytesIO()
    await export.write_jsonl(stream([a_result(**FAILED)]), out, schema={})
    line = json.loads(out.getvalue())
    assert line["error"] == {"code": "content_filter", "message": "stopped"}
    assert [line[name] for name in ("output", "usage", "cost_usd", "response_id", "settled_at")] == [None] * 5


@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"output_text": '{"a": [1]}'}, {"a": [1]}),
        ({"output_text": "not JSON"}, None),
        ({"output_text": None}, None),
        ({"output_text": "{}", "state": State.FAILED, "code": "output_invalid"}, None),
    ],
)
async def test_structured_answers_are_parsed(
    a_result: Build, stream: Stream, changes: dict[str, object], output: object
) -> None:
    out = io.BytesIO()
    await export.write_jsonl(stream([a_result(**changes)]), out, schema={})
    assert json.loads(out.getvalue())["output"] == output


async def test_csv_has_flat_columns_and_survives_commas_quotes_and_line_breaks(
    a_result: Build, stream: Stream
) -> None:
    out = io.BytesIO()
    assert await export.write_csv(stream([a_result(), a_result(key="row-2", **FAILED)]), out) == 2
    first, second = csv.DictReader(io.StringIO(out.getvalue().decode(), newline=""))
    assert first["output_text"] == 'Grüße,\n"you"'
    assert (first["cached_tokens"], first["cost_usd"], first["settled_at"]) == (
        "200",
        "0.000001",
        "2026-11-21T20:00:03Z",
    )
    assert (second["key"], second["error_code"], second["cost_usd"], second["settled_at"]) == (
        "row-2",
        "content_filter",
        "",
        "",
    )
    assert (first["reused"], second["reused"]) == ("false", "false")
    assert (second["cost_upper_bound_usd"], second["possible_duplicates"]) == ("0.000002", "1")


async def test_csv_larger_than_its_buffer_is_complete(a_result: Build, stream: Stream) -> None:
    out = io.BytesIO()
    await export.write_csv(stream(a_result(key=str(n), output_text="x" * 1000) for n in range(1000)), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    assert [row["key"] for row in rows] == [str(n) for n in range(1000)]
    assert {row["output_text"] for row in rows} == {"x" * 1000}


async def test_batch_lines_wrap_the_response_as_received(a_result: Build, stream: Stream) -> None:
    asked = []

    async def body_of(record: ResultRecord) -> bytes:
        asked.append(record.response_id)
        return b'{\r\n  "id": "resp_a",\n  "n": 1.50, "text": "a\\nb"\n}'

    out = io.BytesIO()
    rows = [a_result(), a_result(key="row-2", request_id=8, **FAILED)]
    assert await export.write_openai_batch(stream(rows), out, body_of=body_of) == 2
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first == {
        "id": "batch_req_7",
        "custom_id": "row-1",
        "response": {"status_code": 200, "request_id": None, "body": {"id": "resp_a", "n": 1.5, "text": "a\nb"}},
        "error": None,
    }
    assert second["response"] is None
    assert second["error"] == {"code": "content_filter", "message": "stopped"}
    assert asked == ["resp_a"]
    assert b"1.50" in out.getvalue(), "the body is passed on as it is, not written anew"


async def test_parquet_has_typed_columns_and_exact_money(a_result: Build, stream: Stream, tmp_path: Path) -> None:
    arro3_io = pytest.importorskip("arro3.io")
    rows = [a_result(key=str(n), cost_pusd=n) for n in range(4_500)] + [a_result(key="last", **FAILED, reused=True)]
    with (tmp_path / "out.parquet").open("wb") as out:
        assert await parquet_file.write_parquet(lambda: stream(rows), out) == 4_501
    table = arro3_io.read_parquet(tmp_path / "out.parquet").read_all()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    assert columns["key"] == [*map(str, range(4_500)), "last"]
    assert columns["cost_usd"][4_499] == Decimal("0.000000004499")
    assert columns["reused"] == [False] * 4_500 + [True]
    assert columns["submitted_at"][0].isoformat() == "2026-11-21T20:00:00.250000+00:00"
    assert [columns[name][-1] for name in ("cost_usd", "settled_at", "total_tokens", "error_code")] == [
        None,
        None,
        None,
        "content_filter",
    ]


async def test_an_error_while_reading_is_raised_by_the_parquet_export(a_result: Build, tmp_path: Path) -> None:
    pytest.importorskip("arro3.io")

    async def broken() -> AsyncIterator[ResultRecord]:
        yield a_result()
        raise UsageError("gone")

    with (tmp_path / "out.parquet").open("wb") as out, pytest.raises(UsageError, match="gone"):
        await parquet_file.write_parquet(broken, out)


async def test_a_cancelled_parquet_export_ends(a_result: Build) -> None:
    pytest.importorskip("arro3.io")
    started = anyio.Event()

    async def endless() -> AsyncIterator[ResultRecord]:
        while True:
            started.set()
            await anyio.lowlevel.checkpoint()
            yield a_result()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parquet_file.write_parquet, endless, io.BytesIO())
        await started.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("a.csv", "csv"), ("a.PARQUET", "parquet"), ("a.jsonl", "jsonl"), ("a", "jsonl"), (None, "jsonl")],
)
def test_the_name_chooses_the_format(name: str | None, chosen: str) -> None:
    assert export.format_for(Path(name) if name else None).value == chosen


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def break_off(target: Path) -> None:
    with whole_file(target) as out:
        out.write(b"half")
        raise RuntimeError


class TestWholeFile:
    def test_it_replaces_the_old_file_only_at_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "out.jsonl"
        for text in (b"first", b"second"):
            with whole_file(target) as out:
                out.write(text)
                assert not target.exists() or target.read_bytes() == b"first"
        assert target.read_bytes() == b"second"
        assert names_in(target.parent) == ["out.jsonl"]

    def test_a_failure_leaves_the_old_file_and_no_trace(self, tmp_path: Path) -> None:
        target = tmp_path / "out.jsonl"
        target.write_bytes(b"old")
        with pytest.raises(RuntimeError):
            break_off(target)
        assert target.read_bytes() == b"old"
        assert names_in(tmp_path) == ["out.jsonl"]

    def test_a_link_keeps_pointing_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with whole_file(tmp_path / "link") as out:
            out.write(b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_bytes() == b"new"

    def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(self, tmp_path: Path) -> None:
        for _ in range(2):
            with whole_file(tmp_path / "out.jsonl") as out:
                out.write(b"x")
        assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600
        (tmp_path / "out.jsonl").chmod(0o664)
        with whole_file(tmp_path / "out.jsonl") as out:
            out.write(b"y")
        assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o664

    def test_a_device_is_written_to_and_stays(self) -> None:
        with whole_file(Path("/dev/null")) as out:
            out.write(b"away")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_a_path_that_cannot_be_written_is_a_user_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError) as caught, whole_file(tmp_path / "file" / "out.jsonl"):
            pass
        assert caught.value.where == str(tmp_path / "file" / "out.jsonl")


class TestCheckTarget:
    def test_a_path_that_can_be_created_is_accepted_and_not_created(self, tmp_path: Path) -> None:
        check_target(tmp_path / "a" / "b" / "out.jsonl")
        assert names_in(tmp_path) == []

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a directory"):
            check_target(tmp_path)

    def test_a_protected_file_is_refused_under_each_of_its_names(self, tmp_path: Path) -> None:
        kept = tmp_path / "r.db"
        protected = [ProtectedFile(kept, "the database"), ProtectedFile(tmp_path / "r.db-wal", "its log")]
        check_target(tmp_path / "other.jsonl", protected)
        kept.touch()
        (tmp_path / "hard").hardlink_to(kept)
        (tmp_path / "soft").symlink_to("r.db")
        (tmp_path / "early").symlink_to("r.db-wal")
        (tmp_path / "round").symlink_to("round")
        for name in ("r.db", "hard", "soft", "r.db-wal", "early", "../" + tmp_path.name + "/r.db"):
            with pytest.raises(UsageError, match="would be overwritten"):
                check_target(tmp_path / name, protected)
        check_target(tmp_path / "round", protected)

    def test_a_file_in_the_way_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="not a directory"):
            check_target(tmp_path / "file" / "out.jsonl")


async def test_a_missing_extra_is_reported_before_the_run(
    a_result: Build, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    with pytest.raises(UsageError, match="extra"):
        check_target(tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="extra"):
        await parquet_file.write_parquet(lambda: stream([a_result()]), io.BytesIO())
    check_target(tmp_path / "out.csv")


DEEP = '{"a":' + "[" * 300 + "]" * 300 + "}"


async def test_an_answer_that_is_nested_too_deep_stops_no_export(
    a_result: Build, stream: Stream, tmp_path: Path
) -> None:
    schema: dict[str, object] = {"properties": {"a": {}}}
    records = [a_result(output_text=DEEP), a_result(output_text='{"a": 1}')]
    out = io.BytesIO()
    assert await export.write_jsonl(stream(records), out, schema=schema) == 2
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["output"], first["output_text"]) == (None, DEEP)
    assert second["output"] == {"a": 1}
    out = io.BytesIO()
    assert await export.write_csv(stream(records), out, extra=ExtraColumns.of(schema)) == 2
    assert [row["output.a"] for row in csv.DictReader(io.StringIO(out.getvalue().decode()))] == ["", "1"]
    pytest.importorskip("arro3.io")
    with (tmp_path / "out.parquet").open("wb") as file:
        assert await parquet_file.write_parquet(lambda: stream(records), file, extra=ExtraColumns.of(schema)) == 2


@pytest.mark.parametrize("number", ["123456789012345678901", "0.1000000000000000055511151231257827", "1e400"])
async def test_digits_of_an_answer_are_written_back(a_result: Build, stream: Stream, number: str) -> None:
    kind = "integer" if number.isdigit() else "number"
    schema = {"properties": {"n": {"type": kind}, "many": {"type": "array"}}}
    record = a_result(output_text=f'{{"n":{number},"many":[{number}]}}')
    out = io.BytesIO()
    await export.write_jsonl(stream([record]), out, schema=schema)
    assert f'"output":{{"n":{number},"many":[{number}]}}'.encode() in out.getvalue()
    out = io.BytesIO()
    await export.write_csv(stream([record]), out, extra=ExtraColumns.of(schema))
    [row] = csv.DictReader(io.StringIO(out.getvalue().decode()))
    assert (row["output.n"], row["output.many"]) == (number, f"[{number}]")


@pytest.mark.parametrize(
    "text", ['```json\n{"a": 1}\n```', ' ```\n{"a": 1}```\n', '```{"a": 1}```', '```JSON\r\n{"a": 1}\r\n```']
)
async def test_an_answer_in_a_code_fence_is_read(a_result: Build, stream: Stream, text: str) -> None:
    out = io.BytesIO()
    await export.write_jsonl(stream([a_result(output_text=text)]), out, schema={"type": "object"})
    line = json.loads(out.getvalue())
    assert (line["output"], line["output_text"]) == ({"a": 1}, text)


@pytest.mark.parametrize("text", ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
async def test_safe_csv_holds_no_formula(a_result: Build, stream: Stream, text: str) -> None:
    schema = {"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}
    record = a_result(key=text, output_text=json.dumps({"a": text, "n": -5}))
    for safe, sign in ((True, "'"), (False, "")):
        out = io.BytesIO()
        await export.write_csv(stream([record]), out, extra=ExtraColumns.of(schema), without_formulas=safe)
        [row] = csv.DictReader(io.StringIO(out.getvalue().decode(), newline=""))
        assert (row["key"], row["output.a"], row["output.n"]) == (sign + text, sign + text, "-5")
