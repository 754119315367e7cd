"""Log lines on standard error: one event per line, as text or JSON.

Events hold keys, codes, counts and money, never a prompt, an answer or a secret, so none of these can reach a log.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from orchestrator.core.events import (
    Observer,
    OutageBegan,
    OutageEnded,
    RowSkipped,
    RunEnded,
    RunEvent,
    RunStarted,
    Settled,
    Warned,
)
from orchestrator.core.money import format_usd
from orchestrator.core.printable import printable
from orchestrator.report.summary import usage_object

__all__ = ["EventLog", "Level", "Style", "logger", "observer"]

_SHOWN_BAD_ROWS = 5
_NUMBERS = logging.getLevelNamesMapping()
_COLORS = {"debug": "\x1b[32m", "info": "\x1b[32m", "warning": "\x1b[33m"}
_BOLD, _CYAN, _MAGENTA, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[35m", "\x1b[0m"
_QUOTED = frozenset(" \t=\r\n\"'")

# Makes a line of a time, a level, an event and its fields.
_Writer: TypeAlias = Callable[[datetime, str, str, dict[str, Any]], str]


class Level(StrEnum):
    """How much is logged; ``debug`` adds one line for each settled request."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class Style(StrEnum):
    """Lines for people, or one JSON object per line."""

    CONSOLE = "console"
    JSON = "json"


class EventLog:
    """Writes events at or above a level to standard error, each as one line.

    The usual packages for this take longer to import than a run of one row takes to start.
    """

    def __init__(self, level: Level, writer: _Writer) -> None:
        self._least = _NUMBERS[level.upper()]
        self._writer = writer

    def is_enabled_for(self, level: int) -> bool:
        """Whether events of this level, a number of ``logging``, are written."""
        return level >= self._least

    def debug(self, event: str, **fields: Any) -> None:
        """Write an event that helps to find a fault."""
        self._write(Level.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write an event of the normal course."""
        self._write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write an event that the user should see."""
        self._write(Level.WARNING, event, fields)

    def _write(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        if not self.is_enabled_for(_NUMBERS[level.upper()]):
            return
        clean = {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}
        line = self._writer(datetime.now(UTC), level.value, printable(event), clean)
        # A closed terminal or a full disk must not stop the run.
        try:
            # The current standard error, so that a live display can show the lines above itself.
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def logger(level: Level, style: Style) -> EventLog:
    """Returns a log that writes to standard error, with colors only on a terminal."""
    if style is Style.JSON:
        return EventLog(level, _json_line)
    return EventLog(level, _colored_line if sys.stderr.isatty() and "NO_COLOR" not in os.environ else _text_line)


def _json_line(at: datetime, level: str, event: str, fields: dict[str, Any]) -> str:
    timestamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return orjson.dumps({"timestamp": timestamp, "level": level, "event": event, **fields}, default=str).decode()


def _text_line(at: datetime, level: str, event: str, fields: dict[str, Any]) -> str:
    return " ".join(
        (f"{at.astimezone():%H:%M:%S} [{level}] {event}", *(f"{k}={_text(v)}" for k, v in fields.items()))
    )


def _colored_line(at: datetime, level: str, event: str, fields: dict[str, Any]) -> str:
    start = f"{at.astimezone():%H:%M:%S} [{_COLORS[level]}{level}{_PLAIN}] {_BOLD}{event}{_PLAIN}"
    pairs = (f"{_CYAN}{k}{_PLAIN}={_MAGENTA}{_text(v)}{_PLAIN}" for k, v in fields.items())
    return " ".join((start, *pairs))


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value and not _QUOTED & set(value) else repr(value)


def observer(log: EventLog) -> Observer:
    """Returns an observer that logs the engine's events; only the first few bad rows are warnings."""
    bad_rows = 0
    # Checked once: building a line for each request only to drop it would take 1 % of the CPU time.
    logs_settled = log.is_enabled_for(logging.DEBUG)

    def observe(event: RunEvent) -> None:
        nonlocal bad_rows
        match event:
            case Settled():
                if logs_settled:
                    _log_settled(log, event)
            case RowSkipped():
                bad_rows += 1
                warn = log.warning if bad_rows <= _SHOWN_BAD_ROWS else log.debug
                warn("row skipped", where=event.where, reason=event.reason)
            case Warned():
                log.warning(event.message, code=event.code)
            case OutageBegan():
                log.warning("the provider does not answer; orchestrator retries by itself", reason=event.reason)
            case OutageEnded():
                log.warning("the provider answers again", lasted_s=round(event.lasted_s, 1))
            case RunStarted():
                word = "run resumed" if event.resumed else "run started"
                log.info(word, run=event.run, job=event.job, database=event.database)
            case RunEnded():
                log.info("run ended", run=event.run, state=event.state, reason=event.reason)

    return observe


def _log_settled(log: EventLog, event: Settled) -> None:
    log.debug(
        "settled",
        key=event.key,
        state=event.state.value,
        code=event.code,
        response_id=event.response_id,
        status=event.status,
        attempts=event.attempts,
        cost_usd=None if event.cost_pusd is None else format_usd(event.cost_pusd),
        elapsed_s=round(event.elapsed_s, 3),
        **(usage_object(event.usage) if event.usage else {}),
    )
