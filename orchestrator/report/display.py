"""Progress on standard error: a live display on a terminal, else a line every ten seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.core.events import Progress
from orchestrator.report import formatting
from orchestrator.report.log import Style
from orchestrator.report.progress import (
    Throughput,
    View,
    counts_texts,
    lane_text,
    plain_line,
    rate_texts,
    stage_texts,
    total_text,
    view_object,
    view_of,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["Bar", "Display", "Mode", "Plain", "bar_lines", "choose_mode", "displayed"]


class Mode(StrEnum):
    """How progress is shown; ``auto`` is the bar on a terminal and plain lines elsewhere."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"


class Display(Protocol):
    """Draws one view at a time; entering and leaving it prepares and restores the terminal."""

    every_s: float

    def draw(self, view: View) -> None:
        """Show this view in place of the last one."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def choose_mode(mode: Mode) -> Mode:
    """Returns the mode to use: ``auto`` is the bar on a terminal and plain lines elsewhere."""
    if mode is not Mode.AUTO:
        return mode
    return Mode.BAR if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Mode.PLAIN


@asynccontextmanager
async def displayed(
    progress: Callable[[], Progress], display: Display | None, *, now: Callable[[], float]
) -> AsyncIterator[None]:
    """Show progress while the body runs, and again at its end; without a display show nothing."""
    if display is None:
        yield
        return
    throughput = Throughput()

    def view() -> View | None:
        current = progress()
        # Before a run has started there is nothing to show.
        return view_of(current, throughput, now()) if current.run else None

    async def keep_drawing() -> None:
        while True:
            await anyio.sleep(display.every_s)
            if seen := view():
                display.draw(seen)

    with display:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_drawing)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                if seen := view():
                    display.draw(replace(seen, waiting=None, left_s=None))


class Plain:
    """One line every ten seconds and one at the end: for logs, cron and pipes."""

    every_s = 10.0

    def __init__(self, log: FilteringBoundLogger, style: Style) -> None:
        self._log = log
        self._style = style

    def draw(self, view: View) -> None:
        if self._style is Style.JSON:
            self._log.info("progress", **view_object(view))
        else:
            self._log.info(plain_line(view))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Bar:
    """Three lines that stay in place until the run ends; log lines appear above them."""

    every_s = 0.2

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._broken = False

    def draw(self, view: View) -> None:
        self._ignoring_errors(lambda: self._live.update(bar_lines(view), refresh=True))

    def __enter__(self) -> Self:
        self._ignoring_errors(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        self._ignoring_errors(self._live.stop)

    def _ignoring_errors(self, action: Callable[[], None]) -> None:
        # A closed terminal must not stop the run.
        if not self._broken:
            try:
                action()
            except (OSError, ValueError):
                self._broken = True


def bar_lines(view: View) -> Group:
    """Returns the live display: a bar, the counts, and the cost or what the run waits for."""
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(no_wrap=True, max_width=28, overflow="ellipsis")
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(
        Text(view.run, "bold"),
        ProgressBar(total=max(view.total, 1), completed=view.settled, complete_style="green"),
        total_text(view),
        f"{formatting.duration(view.left_s)} left" if view.left_s is not None else "",
    )
    lane = lane_text(view)
    counts = Text("  " + " · ".join([*counts_texts(view), *([lane] if lane else [])]))
    if view.failed:
        counts.highlight_words([f"{formatting.count(view.failed)} failed"], "red")
    lines: list[RenderableType] = [bar, counts, Text("  " + " · ".join(rate_texts(view)))]
    if view.stages:
        lines.insert(2, Text("  " + " · ".join(stage_texts(view))))
    if view.waiting:
        lines.append(Text(f"  {view.waiting}", "yellow"))
    if view.stopping:
        lines.append(Text("  stopping: nothing new is sent, what is on disk stays true", "yellow"))
    return Group(*lines)
