"""A stop ends the process soon, whatever it is reading."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .rig import Rig

# Five seconds are promised; the rest is for a machine that does other things as well.
_SOON_S = 15.0


def long_quoted_fields(path: Path) -> None:
    field = '"' + 'x ""quoted""\n' * 400_000 + '"'
    path.write_text("id,text\n" + "".join(f"{n},{field}\n" for n in range(8)))


def deep_json(path: Path) -> None:
    line = json.dumps({"id": 1, "text": "x" * 4_000_000, "more": [[[[0]] * 2_000]] * 200})
    path.write_text(f"{line}\n" * 6)


def compressed_rows(path: Path) -> None:
    with gzip.open(path, "wt", compresslevel=1) as file:
        for n in range(400_000):
            file.write(json.dumps({"id": n, "text": f"{n:090}"}) + "\n")


@pytest.mark.parametrize(
    ("name", "write"),
    [("rows.csv", long_quoted_fields), ("rows.jsonl", deep_json), ("rows.jsonl.gz", compressed_rows)],
)
def test_an_interrupt_ends_the_reading(rig: Callable[..., Rig], name: str, write: Callable[[Path], None]) -> None:
    at = rig(job={"input": {"path": name, "key": "id"}})
    write(at.folder / name)
    process = at.start(*at.run_arguments())
    while process.poll() is None and not at.database.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    ended = at.end(process)
    assert time.monotonic() - began < _SOON_S
    assert ended.code == 130, ended.err
