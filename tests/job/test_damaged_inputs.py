"""Hundreds of input files, each damaged by a seeded fuzzer: read, or refused with the place of the damage."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.model import PlanMark
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job

_FEW = 40
_MANY = 500

_LINES = "".join(
    f'{{"id": {number}, "text": "größer: \\"{number}\\"", "n": [0.5, {2**70 + number}]}}\n' for number in range(60)
).encode()
_TABLE = ("id;text;n\n" + "".join(f'{n};"größer; ""{n}""\n{n}";0,5\n' for n in range(60))).encode()


def _table_of_columns(folder: Path) -> bytes:
    pytest.importorskip("arro3.io")
    from arro3.core import Array, DataType, Field, RecordBatch, Schema
    from arro3.io import write_parquet

    texts = Array([f"größer {number}" for number in range(300)], type=DataType.string())
    numbers = Array(list(range(300)), type=DataType.int64())
    columns = {"id": texts, "n": numbers, "text": texts, "at": numbers.cast(DataType.timestamp("s"))}
    schema = Schema([Field(name, column.type) for name, column in columns.items()])
    write_parquet(RecordBatch(list(columns.values()), schema=schema), folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


_WHOLE: dict[str, Callable[[Path], bytes]] = {
    "rows.parquet": _table_of_columns,
    "rows.jsonl.gz": lambda _: gzip.compress(_LINES),
    "rows.jsonl": lambda _: _LINES,
    "rows.csv": lambda _: _TABLE,
}


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with a few bytes flipped, taken out, doubled or cut off."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged) or 1)
        match rng.randrange(5):
            case 0 if damaged:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                del damaged[at : at + rng.randint(1, 40)]
            case 2:
                damaged[at:at] = damaged[at : at + rng.randint(1, 40)]
            case 3:
                damaged[at:at] = rng.choice([b"\x00", b"\xff", b'"', b"\n", b"{", b"\xef\xbb\xbf", b"9" * 5000])
            case _ if rng.random() < 0.3:
                del damaged[at:]
    return bytes(damaged)


def _read(name: str, folder: Path) -> str:
    """How a file ends: "read", or "refused" with its place."""
    place = {"path": str(folder / name), "delimiter": ";", "on_bad_row": "stop"}
    request = {"model": "gpt-5-mini", "input": "{{ text }} {{ row | tojson }}"}
    job = Job.model_validate({"name": "j", "input": place, "request": request})
    try:
        for _ in plan(job, Renderer(job), start=PlanMark(position=0, complete=False)):
            pass
    except OrchestratorError as error:
        return "refused" if (error.where or "").startswith(str(folder / name)) else f"without a place: {error}"
    return "read"


def _read_many(name: str, count: int, folder: Path) -> Counter[str]:
    whole = _WHOLE[name](folder)
    (folder / name).write_bytes(whole)
    assert _read(name, folder) == "read"
    ends: Counter[str] = Counter()
    for number in range(count):
        (folder / name).write_bytes(_damaged(whole, random.Random(f"{name} {number}")))
        ends[_read(name, folder)] += 1
    print(f"{count} damaged files like {name}: {dict(ends)}")  # noqa: T201
    assert set(ends) <= {"read", "refused"}
    return ends


@pytest.mark.parametrize("name", _WHOLE)
def test_a_damaged_file_is_read_or_refused_with_its_place(name: str, tmp_path: Path) -> None:
    assert _read_many(name, _FEW, tmp_path)["refused"] > 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", _WHOLE)
def test_hundreds_of_damaged_files_are_read_or_refused_with_their_place(name: str, tmp_path: Path) -> None:
    assert _read_many(name, _MANY, tmp_path)["refused"] > 0
