"""``remove``: takes a run out of the database."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigOfDatabase, Database, Json, RunName
from orchestrator.cli.output import note, say, say_json
from orchestrator.cli.run_outcome import what_is_left
from orchestrator.cli.session import opened
from orchestrator.core.errors import UsageError

__all__ = ["remove"]


async def remove(
    run: RunName,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Ask nothing.")] = False,
    db: Database = None,
    config: ConfigOfDatabase = None,
    json: Json = False,
) -> None:
    """Remove a run from the database: rows, answers, history and costs.

    Budgets still count what it spent, and other runs keep the answers that they share with it. A run with requests
    that are open or in doubt must be cancelled first. What the provider keeps stays there: `purge` deletes it before.
    """
    async with opened(db, config, writes=True) as orchestrator:
        summary = await orchestrator.status(run)
        total = sum(summary.requests.values())
        if not yes:
            note(f"{run}: {total:,} requests, {what_is_left(summary)}")
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError("nothing was removed: there is no terminal to ask", hint="say --yes")
            note("Remove it from the database? [y/N] ")
            if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
                raise UsageError("nothing was removed")
        await orchestrator.remove(run)
        if json:
            say_json({"run": run, "removed": True, "requests": total})
        else:
            say(f"{run} was removed, with {total:,} requests")
