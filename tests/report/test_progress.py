"""Progress shows the state of a run, and no guesses."""

from __future__ import annotations

import time
from collections import Counter

import anyio
import pytest
from rich.console import Console

from orchestrator.core.events import Progress
from orchestrator.core.model import Usage
from orchestrator.core.states import State
from orchestrator.report.display import Bar, Mode, Plain, bar_lines, choose_mode, displayed
from orchestrator.report.log import Level, Style, logger
from orchestrator.report.progress import Throughput, View, plain_line, view_object, view_of

START = 1_795_291_200.0


def a_progress(**changes: object) -> Progress:
    progress = Progress(
        run="nightly-1",
        started_at=START,
        requests=Counter(
            {
                State.SUCCEEDED: 597,
                State.FAILED: 3,
                State.SUBMITTED: 180,
                State.SUBMITTING: 10,
                State.AWAITING_TOOLS: 10,
                State.PENDING: 400,
            }
        ),
        planned=1200,
        planning_done=True,
        settled_here=600,
        usage=Usage(total_tokens=1_234_567),
        cost_pusd=400_000_000_000,
        budget_pusd=5 * 10**12,
    )
    for name, value in changes.items():
        setattr(progress, name, value)
    return progress


def a_throughput(*, settled: int = 500, seconds: float = 10.0) -> Throughput:
    throughput = Throughput()
    throughput.note(START, settled)
    throughput.note(START + seconds / 2, settled)
    return throughput


def test_the_use_of_a_budget_is_shown_from_half_on() -> None:
    def words(used: tuple[str, int] | None) -> str:
        return plain_line(view_of(a_progress(budget_used=used), a_throughput(), START + 10))

    assert "81 % of the day's budget used" in words(("day", 81))
    assert "budget used" not in words(("run", 49))
    assert "budget used" not in words(None)


def test_a_plain_line_shows_everything() -> None:
    view = view_of(a_progress(), a_throughput(), START + 10)
    assert plain_line(view) == (
        "nightly-1: 600 of 1,200 settled, 597 succeeded, 3 failed, 200 in flight, 10.0 rows/s, 1.23 M tokens, "
        "$0.4000, about $0.8000 in all, budget $5.00, 1 min left"
    )


def test_while_the_input_is_read_nothing_is_projected() -> None:
    view = view_of(a_progress(planning_done=False), a_throughput(), START + 10)
    assert (view.left_s, view.projected_pusd) == (None, None)
    assert "600 of 1,200+ settled" in plain_line(view)


def test_a_starting_run_has_no_throughput_and_no_estimate() -> None:
    view = view_of(Progress(run="nightly-1"), Throughput(), START)
    assert (view.per_second, view.left_s, view.total, view.projected_pusd) == (None, None, 0, None)
    assert plain_line(view).startswith("nightly-1: 0 of 0+ settled, 0 succeeded, 0 failed, 0 in flight, 0 tokens")


@pytest.mark.parametrize(
    ("waiting_for", "left_s", "sentence"),
    [
        ("rate limit", 12, "held back by the rate limit; next try in 12 s"),
        ("rate limit", 0.2, "held back by the rate limit"),
        ("outage", 90, "the provider does not answer; next try in 1 min 30 s"),
        ("budget", None, "the budget is reserved; waiting for charges to settle"),
        (None, None, None),
    ],
)
def test_the_reason_for_waiting_is_a_sentence(
    waiting_for: str | None, left_s: float | None, sentence: str | None
) -> None:
    until = None if left_s is None else START + left_s
    assert view_of(a_progress(waiting_for=waiting_for, waiting_until=until), Throughput(), START).waiting == sentence


def test_throughput_is_measured_over_the_last_seconds() -> None:
    throughput = Throughput()
    for second in range(100):
        throughput.note(START + second, second * 10 if second < 50 else 500 + (second - 50) * 20)
    assert throughput.per_second() == pytest.approx(20)


def test_the_throughput_of_a_slow_run_is_measured_over_all_of_it() -> None:
    throughput = Throughput()
    for minute in range(61):
        throughput.note(START + minute * 60, minute // 30)
    assert throughput.per_second() == pytest.approx(2 / 3600)


def test_unknown_costs_are_shown() -> None:
    assert "$0.4000 + 2 of unknown cost" in plain_line(view_of(a_progress(cost_unknown=2), Throughput(), START))


def test_log_fields_are_plain_values() -> None:
    fields = view_object(view_of(a_progress(), a_throughput(), START + 10))
    assert (fields["rows_per_s"], fields["left_s"], fields["cost_usd"]) == (10.0, 60, "0.4")
    assert {type(value) for value in fields.values()} <= {str, int, float, bool, type(None)}


def drawn(view: View, width: int) -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(bar_lines(view))
    return [line.rstrip() for line in capture.get().rstrip("\n").split("\n")]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_stays_within_its_lines(width: int) -> None:
    view = view_of(a_progress(waiting_for="budget", stopping=True), a_throughput(), START + 10)
    lines = drawn(view, width)
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("nightly-1  ━")
    assert lines[0].endswith("600 of 1,200  1 min left")
    assert lines[1] == "  597 succeeded · 3 failed · 200 in flight"
    # A line that is full continues below without the point between.
    assert "$0.4000 · about $0.8000 in all" in " · ".join(line.strip() for line in lines[2:])
    assert "stopping" in lines[-1]


def test_a_long_name_leaves_room_for_the_bar() -> None:
    view = view_of(a_progress(run="a-very-long-name-of-a-job-that-somebody-chose-12"), a_throughput(), START + 10)
    assert "━" * 5 in drawn(view, 80)[0]


def test_auto_is_plain_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_mode(Mode.AUTO) is Mode.PLAIN
    assert choose_mode(Mode.BAR) is Mode.BAR


@pytest.mark.anyio
async def test_plain_progress_shows_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    async with displayed(
        lambda: progress, Plain(logger(Level.INFO, Style.CONSOLE), Style.CONSOLE), now=lambda: START
    ):
        progress = a_progress()
        await anyio.lowlevel.checkpoint()
    assert capsys.readouterr().err.count("nightly-1: 600 of 1,200 settled") == 1


@pytest.mark.anyio
async def test_nothing_is_shown_before_a_run_has_started(capsys: pytest.CaptureFixture[str]) -> None:
    async with displayed(Progress, Plain(logger(Level.INFO, Style.CONSOLE), Style.CONSOLE), now=time.time):
        pass
    assert capsys.readouterr().err == ""


def test_a_closed_terminal_does_not_stop_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        encoding = "utf-8"

        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Closed())
    with Bar() as bar:
        bar.draw(view_of(a_progress(), a_throughput(), START + 10))
        bar.draw(view_of(a_progress(), a_throughput(), START + 11))


@pytest.mark.parametrize(
    ("lanes", "shown"),
    [
        ((), ""),
        (("background",), ""),
        (("sync",), "lane sync"),
        (("batch", "background"), "lane batch and background"),
    ],
)
def test_a_lane_is_shown_if_it_is_not_the_usual_one(lanes: tuple[str, ...], shown: str) -> None:
    view = view_of(a_progress(lanes=lanes), a_throughput(), START + 10)
    assert ("lane" in plain_line(view)) == bool(shown)
    assert shown in plain_line(view)
    assert ("lane" in "\n".join(drawn(view, 100))) == bool(shown)
