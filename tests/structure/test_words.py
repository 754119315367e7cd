"""No old word stands anywhere, and the search for them finds what it should."""

from __future__ import annotations

import pytest

from tests.structure.words import Allowed, allowed, findings, findings_in, unused_allowances


def test_no_old_word_is_used() -> None:
    assert [str(each) for each in findings()] == []


def test_every_allowed_text_stands_somewhere_and_has_a_reason() -> None:
    assert unused_allowances() == []
    assert all(each.reason for each in allowed())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("orchestrator/a.py", "judge_look = 1\n"),
        ("orchestrator/a.py", "class FirstLooks: ...\n"),
        ("orchestrator/a.py", '"""Looks at a response."""\n'),
        ("orchestrator/a.py", "x = 1  # ask anew\n"),
        ("orchestrator/a.py", "# nobody\n"),
        ("orchestrator/a.py", "# The run goes\n# on.\n"),
        ("orchestrator/a.py", 'x = f"{1} requests bounced"\n'),
        ("orchestrator/a.sql", "-- name: look_at_response\n"),
        ("docs/a.md", "What becomes\nof it\n"),
        ("tests/test_a.py", "def test_a_run_that_nobody_works_on() -> None: ...\n"),
        ("tests/test_a.py", 'def test_a() -> None:\n    """The story of a row."""\n'),
        ("orchestrator/crew.py", ""),
    ],
)
def test_an_old_word_is_found(path: str, text: str) -> None:
    assert list(findings_in(path, text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("orchestrator/a.py", "def lookup(kept: int) -> int: ...\n"),
        ("orchestrator/a.py", '"""Looks up a price; the sum is equal to the total, and the file is kept."""\n'),
        ("orchestrator/a.py", '"""Looks at the first bytes of a file: a mistake there costs nothing."""\n'),
        ("docs/a.md", "It polls each open response again until it has ended.\n"),
        ("tests/test_a.py", 'PROMPT = "Tell me a story that nobody knows"\n'),
    ],
)
def test_ordinary_english_is_not(path: str, text: str) -> None:
    assert list(findings_in(path, text)) == []


def test_an_allowed_text_is_passed_over_where_it_is_allowed() -> None:
    exceptions = [Allowed("class: bounce", ("configs/*",), "a value that users write")]
    assert list(findings_in("configs/a.yaml", "class: bounce\n", exceptions)) == []
    assert len(list(findings_in("configs/a.yaml", "class: bounce # bounce\n", exceptions))) == 1
    assert len(list(findings_in("docs/a.md", "class: bounce\n", exceptions))) == 1
