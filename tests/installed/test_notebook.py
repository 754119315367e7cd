"""A notebook: rows from a data frame in, a data frame out, progress and tables beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from .conftest import Said

pytestmark = pytest.mark.services

Shell: TypeAlias = Callable[..., Said]

CELLS = (
    """\
import pandas
from orchestrator import run_sync

rows = pandas.DataFrame({"id": [1, 2, 3], "text": ["Köln. A city.", "Oslo. A city.", None]})
job = {
    "name": "cities",
    "input": {"path": "-", "key": "id"},
    "request": {"model": "gpt-6-luna", "input": "{{ text or 'Nothing.' }}", "max_output_tokens": 2000},
}
results = run_sync(job, rows=rows, config="sandbox")
results""",
    """\
answers = results.to_pandas()
assert list(answers["key"]) == ["1", "2", "3"], answers
assert answers["output_text"][0].startswith("Köln"), answers
assert answers["cost_usd"].sum() > 0
results.to_polars().shape""",
    """\
from orchestrator import Orchestrator
async with Orchestrator() as orchestrator:
    summary = await orchestrator.status("cities-1")
summary""",
)
RUN = """\
import json, nbformat
from nbclient import NotebookClient

notebook = nbformat.read("cities.ipynb", as_version=4)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(json.dumps([cell["outputs"] for cell in notebook["cells"]]))
"""


def test_a_data_frame_goes_in_and_one_comes_out(shell: Shell, tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": text}
        for n, text in enumerate(CELLS)
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "cities.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "run.py").write_text(RUN)
    ended = shell("python", "run.py")
    assert ended.code == 0, ended.err
    outputs = json.loads(ended.out.splitlines()[-1])
    page = shown(outputs[0])["text/html"]
    assert "<td>Köln. A city.</td>" in page
    assert shown(outputs[1])["text/plain"].startswith("(3, ")
    assert "<th>succeeded</th><td>3</td>" in shown(outputs[2])["text/html"]


def shown(outputs: list[dict[str, Any]]) -> dict[str, str]:
    """The value of a cell."""
    data = next(each["data"] for each in outputs if each["output_type"] == "execute_result")
    return {kind: "".join(text) for kind, text in data.items()}
