"""Log lines on standard error: one event per line, as text or JSON.

Events hold keys, codes, counts and money, never a prompt, an answer or a secret, so none of these can reach a log.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["Level", "Style", "logger", "observer"]

_SHOWN_BAD_ROWS = 5


class Level(StrEnum):
    """How much is logged; ``debug`` adds one line for each settled request."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class Style(StrEnum):
    """Lines for people, or one JSON object per line."""

    CONSOLE = "console"
    JSON = "json"


def logger(level: Level, style: Style) -> FilteringBoundLogger:
    """Returns a separate logger that writes to standard error and leaves structlog's global settings unchanged."""
    with _without_tracebacks():
        import structlog

    last: list[Processor]
    if style is Style.JSON:
        last = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    else:
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        last = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, pad_level=False, sort_keys=False),
        ]
    log: FilteringBoundLogger = structlog.wrap_logger(
        _StandardError(),
        processors=[structlog.processors.add_log_level, _without_controls, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level.value),
        cache_logger_on_first_use=True,
    )
    return log


def observer(log: FilteringBoundLogger) -> Observer:
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


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep structlog from importing rich's tracebacks, and pygments with them, if no one else has.

    No line here holds a traceback, and they are four fifths of the time that importing structlog takes.
    """
    name = "rich.traceback"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails then, which structlog expects
    try:
        yield
    finally:
        del sys.modules[name]


def _without_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
    return event


def _to_json(event: dict[str, Any], default: Callable[[Any], Any]) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return orjson.dumps({**first, **event}, default=default).decode()


class _StandardError:
    """Writes to the current standard error, so that a live display can show the lines above itself."""

    def msg(self, message: str) -> None:
        # A closed terminal or a full disk must not stop the run.
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg
