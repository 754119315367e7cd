"""``report``: a run or a dataset as one file to look at and to send."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigOfDatabase, Database
from orchestrator.cli.output import note, stdout_bytes
from orchestrator.cli.session import opened
from orchestrator.core.errors import RunNotFound

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.run_browser import RunBrowser

__all__ = ["report"]

_DEFAULT = "report.html"
_PROGRAM = "orchestrator"


async def report(
    name: Annotated[str, Parameter(name="RUN|DATASET", help="The run's name, or that of a dataset.")],
    /,
    *,
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"],
            metavar="FILE",
            allow_leading_hyphen=True,
            help=f"The file to write, {_DEFAULT} without it; - is standard output.",
        ),
    ] = _DEFAULT,
    with_texts: Annotated[
        bool, Parameter(help="Show the beginnings of the answers of the slowest and most expensive rows.")
    ] = False,
    db: Database = None,
    config: ConfigOfDatabase = None,
) -> None:
    """Write a report of a run, or of the nights of a dataset, as one HTML file.

    It has no script, asks for nothing and stays below 500 kB whatever the run: open it offline, send it, print it.
    It shows figures, failures, costs, settings and keys of rows, but no prompt and no answer. Charts need the extra
    `report`; without it there are tables and bars.
    """
    from orchestrator.app.run_browser import RunBrowser
    from orchestrator.report.output_file import whole_file
    from orchestrator.web.report_charts import can_draw

    path = None if output == "-" else Path(output)
    async with opened(db, config) as orchestrator, RunBrowser.open(orchestrator.database) as browser:
        html = (await _html(orchestrator, browser, name, path, with_texts=with_texts)).encode()
    if path is None:
        with stdout_bytes() as out:
            out.write(html)
        return
    with whole_file(path) as out:
        out.write(html)
    note(f"{path}: {max(1, len(html) // 1000):,} kB")
    if not can_draw():
        note("it has tables in place of charts; these come with: pip install 'responses-orchestrator[report]'")


async def _html(
    orchestrator: Orchestrator, browser: RunBrowser, name: str, path: Path | None, *, with_texts: bool
) -> str:
    from orchestrator.web.run_report import ReportOptions, dataset_report, report_html, run_report

    run = await browser.quick.run(name)
    if run is not None:
        if path is not None:
            await orchestrator.check_target(path, run=name)
        options = ReportOptions(steps=await _steps(browser, name), with_texts=with_texts)
        return report_html(await run_report(browser, run, options))
    if not any(each.name == name for each in await browser.quick.datasets()):
        runs = [each.run.name for each in await browser.runs(before_id=None, limit=5)]
        raise RunNotFound(
            f"{browser.database} has no run and no dataset named {name!r}",
            hint=f"its newest runs: {', '.join(runs) or 'none'}",
        )
    if path is not None:
        latest = (await orchestrator.latest_night(name)).run.name
        await orchestrator.check_target(path, run=latest)
    place = ("--db", browser.database)
    steps = (_line("view", *place), _line("export", "--dataset", name, *place, "-o", "dataset.jsonl"))
    return report_html(await dataset_report(browser, name, ReportOptions(steps=steps)))


async def _steps(browser: RunBrowser, name: str) -> tuple[str, ...]:
    """The commands to type next."""
    from orchestrator.cli.run_outcome import next_steps

    summary = await browser.summary(await browser.run(name))
    place = (name, "--db", browser.database)
    more = next_steps(summary, called_as=_PROGRAM, database=browser.database, resume=_line("resume", *place))
    return (_line("view", *place), _line("export", *place, "-o", "results.jsonl"), *more)


def _line(*words: str) -> str:
    """A command for the readers of the report, without a path of this machine."""
    return f"{_PROGRAM} {shlex.join(words)}"
