"""Progress on standard error: a live display on a terminal, else a line every ten seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.core.events import Progress
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.report import formatting
from orchestrator.report.live_tally import LiveTally, Tallied
from orchestrator.report.log import Style
from orchestrator.report.progress import (
    Throughput,
    View,
    call_texts,
    counts_texts,
    failure_texts,
    lane_text,
    latest_failure_text,
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
    progress: Callable[[], Progress],
    display: Display | None,
    *,
    now: Callable[[], float],
    tally: LiveTally | None = None,
) -> AsyncIterator[None]:
    """Show progress while the body runs, and again at its end; without a display show nothing."""
    if display is None:
        yield
        return
    throughput = Throughput()

    def view() -> View | None:
        current = progress()
        # Before a run has started there is nothing to show.
        tallied = tally.tallied() if tally is not None else Tallied()
        return view_of(current, throughput, now(), tallied) if current.run else None

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
    """A few lines that stay in place until the run ends; log lines appear above them."""

    every_s = 0.2

    def __init__(self, address: str | None = None) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._address = address
        self._broken = False

    def draw(self, view: View) -> None:
        self._ignoring_errors(lambda: self._live.update(bar_lines(view, self._address), refresh=True))

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


@fast_dataclass(kw_only=False)
class _Parts:
    """Parts of a line with points between them; a line that is full continues below, and no part is split."""

    parts: Sequence[str]
    style: str = ""
    first: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        width = max(options.max_width - 2, 20)
        lines: list[str] = []
        for part in self.parts:
            joined = f"{lines[-1]} · {part}" if lines else f"{self.first}{part}"
            if lines and cell_len(joined) > width:
                lines.append(part)
            else:
                lines[-1:] = [joined]
        for line in lines:
            yield Padding(Text(line, self.style, overflow="ellipsis", no_wrap=True), (0, 0, 0, 2))


def bar_lines(view: View, address: str | None = None) -> Group:
    """Returns the live display: a bar, the counts, rates and cost, failures, and what the run waits for.

    Nothing is said by a color alone, and the colors are those that each terminal chooses for its ground.
    """
    lines: list[RenderableType] = [_bar_of(view), _counts_of(view)]
    if view.stages:
        lines.append(_Parts(stage_texts(view)))
    lines += [_Parts(rate_texts(view)), _Parts(call_texts(view))]
    if codes := failure_texts(view):
        lines.append(_Parts(codes, "red", "failures: "))
    if latest := latest_failure_text(view):
        lines.append(_Parts([latest], "red", "latest: "))
    if view.waiting:
        lines.append(_Parts([view.waiting], "bold"))
    if view.stopping:
        lines.append(_Parts(["stopping: nothing new is sent, what is on disk stays true"], "bold"))
    if address:
        # A terminal that is too narrow shows all of it: half an address leads nowhere.
        lines.append(Padding(Text(f"view: {address}", overflow="fold"), (0, 0, 0, 2)))
    return Group(*lines)


def _bar_of(view: View) -> Table:
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(no_wrap=True, max_width=28, overflow="ellipsis")
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(
        Text(view.run, "bold"),
        # The usual ground of the bar is nearly black, which a light terminal shows as if it were done.
        ProgressBar(
            total=max(view.total, 1),
            completed=view.settled,
            style="bright_black",
            complete_style="green",
            finished_style="green",
        ),
        total_text(view),
        f"{formatting.duration(view.left_s)} left" if view.left_s is not None else "",
    )
    return bar


def _counts_of(view: View) -> _Parts:
    lane = lane_text(view)
    return _Parts([*counts_texts(view), *([lane] if lane else [])])
