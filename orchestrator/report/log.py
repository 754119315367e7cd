"""Log lines on standard error: one event a line, as text or JSON.

Events carry keys, codes, counts and money, never a prompt, an answer or a secret, so nothing of the kind can
get into a log.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

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
from orchestrator.report.summary import usage_object

__all__ = ["Level", "Style", "logger", "observer"]

_SHOWN_BAD_ROWS = 5


class Level(StrEnum):
    """How much is logged; ``debug`` is one line for each settled request."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class Style(StrEnum):
    """Lines for people, or one JSON object a line."""

    CONSOLE = "console"
    JSON = "json"


def logger(level: Level, style: Style) -> FilteringBoundLogger:
    """A logger of its own that writes to standard error; structlog's global settings stay as they are."""
    last: list[Processor]
    if style is Style.JSON:
        last = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    else:
        colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        last = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, pad_level=False, sort_keys=False),
        ]
    log: FilteringBoundLogger = structlog.wrap_logger(
        _StandardError(),
        processors=[structlog.processors.add_log_level, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level.value),
        cache_logger_on_first_use=True,
    )
    return log


def observer(log: FilteringBoundLogger) -> Observer:
    """Turns the engine's events into log lines; of the bad rows only the first few are warned of."""
    bad_rows = 0
    # Asked once: to make up a line for each request, only to have it left out, would be a hundredth of all CPU.
    tells_settled = log.is_enabled_for(logging.DEBUG)

    def observe(event: RunEvent) -> None:
        nonlocal bad_rows
        match event:
            case Settled():
                if tells_settled:
                    _log_settled(log, event)
            case RowSkipped():
                bad_rows += 1
                warn = log.warning if bad_rows <= _SHOWN_BAD_ROWS else log.debug
                warn("row skipped", where=event.where, reason=event.reason)
            case Warned():
                log.warning(event.message, code=event.code)
            case OutageBegan():
                log.warning("the provider does not answer; trying again by itself", reason=event.reason)
            case OutageEnded():
                log.warning("the provider answers again", lasted_s=round(event.lasted_s, 1))
            case RunStarted():
                word = "run resumed" if event.resumed else "run started"
                log.info(word, run=event.run, job=event.job, database=event.database)
            case RunEnded():
                log.info("run ended", run=event.run, state=event.state, reason=event.reason)

    return observe


def _log_settled(log: FilteringBoundLogger, event: Settled) -> None:
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


def _to_json(event: dict[str, Any], default: Callable[[Any], Any]) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return orjson.dumps({**first, **event}, default=default).decode()


class _StandardError:
    """Writes to whatever standard error is now, so that a live display can lift the lines above itself."""

    def msg(self, message: str) -> None:
        # A closed terminal or a full disk behind the log must not stop the run.
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg
