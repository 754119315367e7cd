"""Logs are events: keys, codes, counts and money."""

from __future__ import annotations

import json

import pytest

from orchestrator.core.events import (
    OutageBegan,
    OutageEnded,
    RowSkipped,
    RunEnded,
    RunEvent,
    RunStarted,
    Settled,
    Warned,
)
from orchestrator.core.model import Usage
from orchestrator.core.states import State
from orchestrator.report.log import Level, Style, logger, observer

SETTLED = Settled(
    key="row-1",
    state=State.SUCCEEDED,
    code=None,
    response_id="resp_a",
    status="completed",
    attempts=1,
    usage=Usage(input_tokens=10, output_tokens=5, total_tokens=15),
    cost_pusd=1_500_000,
    elapsed_s=1.23456,
)
EVENTS: list[RunEvent] = [
    RunStarted(run="a-1", job="a", resumed=True, database="a.db"),
    SETTLED,
    OutageBegan(reason="connection refused"),
    OutageEnded(lasted_s=61.04),
    Warned(code="price_inferred", message="the price of gpt-x is inferred"),
    RunEnded(run="a-1", state="finished", reason=None),
]


def logged(capsys: pytest.CaptureFixture[str], level: Level, events: list[RunEvent]) -> list[dict[str, object]]:
    observe = observer(logger(level, Style.JSON))
    for event in events:
        observe(event)
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_settled_request_is_one_wide_line(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = logged(capsys, Level.DEBUG, [SETTLED])
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert {**line, "timestamp": ""} == {
        "timestamp": "",
        "level": "debug",
        "event": "settled",
        "key": "row-1",
        "state": "succeeded",
        "code": None,
        "response_id": "resp_a",
        "status": "completed",
        "attempts": 1,
        "cost_usd": "0.0000015",
        "elapsed_s": 1.235,
        "input_tokens": 10,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 5,
        "reasoning_tokens": 0,
        "total_tokens": 15,
        "cache_write_12h_tokens": 0,
    }


@pytest.mark.parametrize(
    ("level", "events"),
    [
        (Level.DEBUG, ["run resumed", "settled", "the provider does not answer; orchestrator retries by itself"]),
        (Level.INFO, ["run resumed", "the provider does not answer; orchestrator retries by itself"]),
        (Level.WARNING, ["the provider does not answer; orchestrator retries by itself"]),
    ],
)
def test_the_level_decides(capsys: pytest.CaptureFixture[str], level: Level, events: list[str]) -> None:
    lines = [line["event"] for line in logged(capsys, level, EVENTS)]
    assert lines[: len(events)] == events
    assert "the price of gpt-x is inferred" in lines


def test_many_bad_rows_give_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[RunEvent] = [RowSkipped(where=f"a.jsonl:{n}", reason="not JSON") for n in range(1000)]
    lines = logged(capsys, Level.INFO, rows)
    assert [line["where"] for line in lines] == [f"a.jsonl:{n}" for n in range(5)]


def test_without_a_terminal_the_text_has_no_color(capsys: pytest.CaptureFixture[str]) -> None:
    observer(logger(Level.INFO, Style.CONSOLE))(RowSkipped(where="a.jsonl:3", reason="not JSON"))
    err = capsys.readouterr().err
    assert err.endswith("[warning] row skipped where=a.jsonl:3 reason='not JSON'\n")
    assert "\x1b" not in err


def test_a_closed_standard_error_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Closed())
    observer(logger(Level.INFO, Style.CONSOLE))(OutageBegan(reason="refused"))
