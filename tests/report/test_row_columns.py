"""Results are written with the columns of their rows, in the types that these have, and without losing a digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from orchestrator.core.errors import UsageError
from orchestrator.report import export, parquet_file
from orchestrator.report.columns import COLUMNS, Kind
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.report.row_columns import RowColumn, find_columns, refuse_unknown
from orchestrator.stores.reads import ResultDetails, ResultRecord

pytestmark = pytest.mark.anyio
Stream: TypeAlias = Callable[[Iterable[ResultRecord]], AsyncIterator[ResultRecord]]
Build: TypeAlias = Callable[..., ResultRecord]

BEYOND = 2**64 + 1
FRACTION = "3.14159265358979323846"


@pytest.fixture
def with_rows(a_result: Build, stream: Stream) -> Callable[..., Callable[[], AsyncIterator[ResultRecord]]]:
    def build(*rows: str) -> Callable[[], AsyncIterator[ResultRecord]]:
        details = (ResultDetails(row.encode()) for row in rows)
        records = [a_result(key=f"row-{n}", details=each) for n, each in enumerate(details)]
        return lambda: stream(records)

    return build


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], Kind.COUNT),
        (["1", "2.5"], Kind.NUMBER),
        (["2.5", "1"], Kind.NUMBER),
        (["true", "null", "false"], Kind.FLAG),
        (["true", "1"], Kind.TEXT),
        (['"a"', "1"], Kind.TEXT),
        (["[1]", '{"a": 1}'], Kind.TEXT),
        (["null"], Kind.TEXT),
        ([str(BEYOND), "1"], Kind.TEXT),
        ([FRACTION, "1.5"], Kind.TEXT),
        ([str(2**53 + 1), "1"], Kind.COUNT),
        (["1.5", str(2**53 + 1)], Kind.TEXT),
    ],
)
async def test_the_kind_of_a_column_holds_all_its_values(with_rows: Any, values: list[str], kind: Kind) -> None:
    records = with_rows(*(f'{{"x": {value}}}' for value in values))
    assert await find_columns(records(), ["x"]) == (RowColumn("x", kind),)


async def test_columns_come_as_named_or_in_the_order_of_the_rows(with_rows: Any) -> None:
    records = with_rows('{"b": 1, "a": 2}', "", '{"c": 3, "a": 4}')
    assert [each.name for each in await find_columns(records(), None)] == ["row.b", "row.a", "row.c"]
    assert [each.name for each in await find_columns(records(), ["c", "b"])] == ["row.c", "row.b"]


async def test_a_column_that_no_row_keeps_is_refused(with_rows: Any) -> None:
    records = with_rows('{"title": 1}', '{"author": 2}')
    await refuse_unknown(records(), ["author", "title"], run="demo-1")
    with pytest.raises(UsageError, match=r"demo-1 keeps no column titel; it keeps title, author") as refused:
        await refuse_unknown(records(), ["title", "titel"], run="demo-1")
    assert "output: {include: [titel]}" in (refused.value.hint or "")
    await refuse_unknown(with_rows("")(), ["title"], run="demo-1")  # all rows were dropped: nothing is known


async def test_json_lines_have_the_row(with_rows: Any) -> None:
    out = io.BytesIO()
    records = with_rows(f'{{"id": {BEYOND}, "t": {FRACTION}, "o": {{"ü": [1]}}}}', '{"o": null}', "")
    assert await export.write_jsonl(records(), out, include=("id", "o")) == 3
    lines = out.getvalue().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [
        {"id": BEYOND, "o": {"ü": [1]}},
        {"id": None, "o": None},
        {"id": None, "o": None},
    ]
    out = io.BytesIO()
    await export.write_jsonl(records(), out, include="all")
    assert f'"row":{{"id":{BEYOND},"t":{FRACTION},"o":{{"ü":[1]}}}}' in out.getvalue().decode()
    assert json.loads(out.getvalue().splitlines()[2])["row"] == {}


async def test_csv_has_them_after_the_other_columns(with_rows: Any) -> None:
    out = io.BytesIO()
    records = with_rows(f'{{"n": {BEYOND}, "ok": true, "=x": "=1+1"}}', '{"n": 1, "ok": null}')
    extra = ExtraColumns.of({"properties": {"n": {"type": "integer"}}}, await find_columns(records(), None))
    await export.write_csv(records(), out, extra=extra, without_formulas=True)
    first, second = csv.DictReader(io.StringIO(out.getvalue().decode(), newline=""))
    assert list(first)[len(COLUMNS) :] == ["output.n", "row.n", "row.ok", "row.=x"]
    assert [first[name] for name in ("row.n", "row.ok", "row.=x")] == [str(BEYOND), "true", "'=1+1"]
    assert [second[name] for name in ("row.n", "row.ok", "row.=x")] == ["1", "", ""]


def read(path: Path) -> dict[str, list[Any]]:
    table = pytest.importorskip("arro3.io").read_parquet(path).read_all()
    return {name: table.column(name).to_pylist() for name in table.column_names}


async def test_parquet_has_their_types(with_rows: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    records = with_rows(f'{{"n": 1, "f": 0.5, "b": true, "t": "ü", "l": {BEYOND}}}', '{"n": null, "l": 2}')
    with path.open("wb") as out:
        extra = ExtraColumns.of(None, await find_columns(records(), None))
        await parquet_file.write_parquet(records, out, extra=extra)
    table = read(path)
    assert [table[f"row.{name}"] for name in "nfbt"] == [[1, None], [0.5, None], [True, None], ["ü", None]]
    assert table["row.l"] == [str(BEYOND), "2"]


NUMBERS = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}}}


@pytest.mark.parametrize(
    ("last", "column", "values"),
    [
        (f'{{"n": {BEYOND}}}', "n", ["1", str(BEYOND)]),
        (f'{{"n": -{BEYOND}}}', "n", ["1", f"-{BEYOND}"]),
        (f'{{"x": {FRACTION}}}', "x", ["1.5", FRACTION]),
        (f'{{"x": {2**53 + 1}}}', "x", ["1.5", str(2**53 + 1)]),
        ('{"x": 1e999}', "x", ["1.5", "1e999"]),
        ('{"n": 1e300}', "n", ["1", "1e+300"]),
        ('{"x": 2}', "x", [1.5, 2.0]),
        (f'{{"n": {2**63 - 1}}}', "n", [1, 2**63 - 1]),
    ],
)
async def test_an_answer_that_no_number_column_holds_makes_it_text(
    a_result: Build, stream: Stream, tmp_path: Path, last: str, column: str, values: list[Any]
) -> None:
    answers = ['{"n": 1, "x": 1.5}'] * 2_500 + [last]  # in the second batch, after much was written
    records = [a_result(output_text=text) for text in answers]
    path = tmp_path / "x.parquet"
    with path.open("wb") as out:
        extra = ExtraColumns.of(NUMBERS)
        assert await parquet_file.write_parquet(lambda: stream(records), out, extra=extra) == len(records)
    assert [read(path)[f"output.{column}"][at] for at in (0, -1)] == values


async def test_what_stood_in_the_output_before_is_kept(with_rows: Any, tmp_path: Path) -> None:
    path = tmp_path / "appended"
    path.write_bytes(b"before")
    with path.open("ab") as out:
        await parquet_file.write_parquet(with_rows("{}"), out)
    before, _, after = path.read_bytes().partition(b"PAR1")
    assert (before, after[-4:]) == (b"before", b"PAR1")
