"""The live display as a terminal shows it: each line at 80 and 120 columns, with and without colors."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Literal

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator.core.events import Settled
from orchestrator.core.states import State
from orchestrator.report.display import Bar, bar_lines
from orchestrator.report.live_tally import LiveTally, Tallied
from orchestrator.report.progress import View, plain_line, view_object, view_of

from .test_progress import START, a_progress, a_throughput

ADDRESS = "http://127.0.0.1:38231/?token=Zk3w9yQm5vR8tX2bN7cJ4hL6sD1fG0pA"
# A color of its own that a terminal does not choose for its ground, or one that is hard to read on a light one.
FIXED_COLORS = re.compile(r"\x1b\[[0-9;]*(?:[34]8;[25]|3[37](?:;|m))")


def settled(key: str, code: str | None = None, seconds: float = 1.0) -> Settled:
    return Settled(
        key=key,
        state=State.SUCCEEDED if code is None else State.FAILED,
        code=code,
        response_id=None,
        status=None,
        attempts=1,
        usage=None,
        cost_pusd=None,
        elapsed_s=seconds,
    )


def a_tally() -> Tallied:
    tally = LiveTally()
    for number in range(1, 101):
        tally.observe(settled(f"row-{number}", seconds=float(number)))
    for key, code in (("row-3", "refusal"), ("row-9", "server_error"), ("row-17", "refusal")):
        tally.observe(settled(key, code))
    return tally.tallied()


def a_view(tallied: Tallied | None = None, **changes: object) -> View:
    progress = a_progress(polls=8_840, rate_limited=5, waiting_for="budget", **changes)
    return view_of(progress, a_throughput(), START + 10, tallied or a_tally())


def recorded(view: View, width: int, *, colors: Literal["truecolor"] | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=colors, force_terminal=colors is not None)
    console.print(bar_lines(view, ADDRESS))
    return file.getvalue()


def test_at_80_columns() -> None:
    assert [line.rstrip() for line in recorded(a_view(), 80).splitlines()] == [
        "nightly-1  ━━━━━━━━━━━━━━━━━━━━━╸                       600 of 1,200  1 min left",
        "  597 succeeded · 3 failed · 200 in flight",
        "  10.0 rows/s · 1.23 M tokens · $0.4000 · about $0.8000 in all · budget $5.00",
        "  8,840 polls · 5 rate-limited (429) · answers in 50 s, p95 1 min 35 s",
        "  failures: refusal 2 · server_error 1",
        "  latest: row-17: refusal",
        "  the budget is reserved; waiting for charges to settle",
        f"  view: {ADDRESS}",
    ]


def test_at_120_columns_only_the_bar_is_longer() -> None:
    narrow, wide = recorded(a_view(), 80).splitlines(), recorded(a_view(), 120).splitlines()
    assert [line.rstrip() for line in wide[1:]] == [line.rstrip() for line in narrow[1:]]
    assert wide[0].count("━") > narrow[0].count("━")


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("key", ["row-1", "k" * 500, "\x1b[2J\x1b]0;title\x07\u202etxt", "行" * 60, "a\nb\tc"])
def test_every_line_fits_whatever_the_key(width: int, key: str) -> None:
    tally = LiveTally()
    for number in range(9):
        tally.observe(settled(key, f"a_code_of_the_provider_that_is_rather_long_{number}{key}"))
    text = recorded(a_view(tally.tallied(), lanes=("batch", "sync")), width)
    lines = text.splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len([line for line in lines if "latest:" in line]) == 1
    # The address is whole, whatever the width.
    assert ADDRESS in "".join(line.strip() for line in lines)


def test_colors_are_those_that_a_terminal_chooses() -> None:
    colored = recorded(a_view(), 80, colors="truecolor")
    assert "\x1b[31m" in colored
    assert FIXED_COLORS.search(colored) is None
    plain = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    without = recorded(a_view(), 80)
    # What is left of the bar is drawn in a color, and is blank without one; all words are the same.
    assert plain.splitlines()[1:] == without.splitlines()[1:]


def test_no_color_is_used_if_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    bar = Bar(ADDRESS)
    assert bar._console.no_color


def test_a_plain_line_has_the_same_figures_and_no_address() -> None:
    line = plain_line(a_view())
    assert "8,840 polls, 5 rate-limited (429), answers in 50 s, p95 1 min 35 s" in line
    assert "failures: refusal 2 and server_error 1" in line
    assert "token" not in line.replace("tokens", "")
    assert "\n" not in line


def test_log_fields_have_failures_by_code() -> None:
    fields = view_object(a_view())
    assert fields["failures"] == {"refusal": 2, "server_error": 1}
    assert (fields["polls"], fields["rate_limited"], fields["median_s"]) == (8_840, 5, 50.0)
    assert "failures" not in view_object(a_view(Tallied()))


def test_rare_codes_and_those_of_earlier_processes_are_summed_up() -> None:
    tally = LiveTally()
    for number in range(7):
        for _ in range(7 - number):
            tally.observe(settled("row", f"code_{number}"))
    tallied = tally.tallied()
    assert (len(tallied.failures), tallied.other_failures) == (4, 6)
    text = recorded(a_view(tallied, requests=a_progress().requests + Counter({State.FAILED: 27})), 120)
    assert "code_0 7 · code_1 6 · code_2 5 · code_3 4 · 6 others · 2 earlier" in text


def test_times_are_those_of_the_latest_answers() -> None:
    tally = LiveTally()
    assert (tally.tallied().median_s, tally.tallied().latest_failure) == (None, None)
    for _ in range(400):
        tally.observe(settled("row", seconds=100.0))
    for _ in range(400):
        tally.observe(settled("row", seconds=2.0))
    tally.observe(settled("shared", seconds=0.0))
    assert (tally.tallied().median_s, tally.tallied().p95_s) == (2.0, 2.0)
