"""No control character from outside reaches a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from orchestrator.cli.output import note, say
from orchestrator.core.printable import printable
from orchestrator.report.log import Level, Style, logger


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("a\rb\x7f\x00", "a␍b␡␀"),
        ("\x9b31m", "\ufffd31m"),
        ("safe\u202etxt.exe", "safe\ufffdtxt.exe"),
        ("\u2066x\u2069\u200f", "\ufffdx\ufffd\ufffd"),
        ("tab\tand\nline, ä 😀", "tab\tand\nline, ä 😀"),
    ],
)
def test_each_kind_of_control_character(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_control_character_is_left_and_the_length_stays(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(unicodedata.category(each) == "Cc" and each not in "\t\n" for each in shown)
    assert not any(unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF"} for each in shown)


def test_every_way_out_replaces_them(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[31mred\x9b0m\u202e"
    note(hostile)
    say(hostile)
    say(Text.assemble(("state: ", "bold"), hostile))
    logger(Level.INFO, Style.CONSOLE).warning(hostile, reason=hostile)
    logger(Level.INFO, Style.JSON).warning(hostile, reason=hostile)
    written = "".join(capsys.readouterr())
    assert written.count("red") == 7
    assert not {"\x1b", "\x9b", "\u202e"} & set(written)
