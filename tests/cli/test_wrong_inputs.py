"""What is said of wrong inputs is what ``wrong_inputs.txt`` shows."""

from __future__ import annotations

from collections.abc import Callable

from . import wrong_inputs
from .conftest import Ended


def test_each_message_is_the_one_on_the_page(cli: Callable[..., Ended]) -> None:
    assert cli("--version").code == 0  # the fixture sets the environment
    assert wrong_inputs.page() == wrong_inputs.PAGE.read_text(), "run: python -m tests.cli.wrong_inputs"


def test_each_message_names_its_file_and_no_bug() -> None:
    page = wrong_inputs.PAGE.read_text()
    assert len(wrong_inputs.JOBS) >= 30
    assert page.count("\nerror: job.yaml") + page.count("\nerror: rows.jsonl:1: ") == len(wrong_inputs.JOBS)
    assert "bug" not in page
    for line in page.splitlines():
        assert not line.startswith("error: rows.jsonl") or "job.yaml:" in line or "ident" in line, line
