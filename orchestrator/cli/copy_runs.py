"""``copy``: all runs of a database into an empty one, such as from a file to a server."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from orchestrator.cli.options import Json
from orchestrator.cli.output import say, say_json
from orchestrator.core.money import format_usd

__all__ = ["copy"]


async def copy(
    *,
    source: Annotated[str, Parameter(name="--from", metavar="FILE|URL", help="The database to copy.")],
    target: Annotated[str, Parameter(name="--to", metavar="FILE|URL", help="A database without runs.")],
    json: Json = False,
) -> None:
    """Copy all runs of a database into another one, from a file to a PostgreSQL server or back.

    Runs, rows, answers, costs and what was learned come along; the source stays as it is. It copies everything or
    nothing, and compares counts and sums before it says so. No run may be at work.
    """
    from orchestrator.stores.backends import open_backend
    from orchestrator.stores.database_copy import copy_database

    to = open_backend(target)
    copied = await copy_database(open_backend(source), to)
    cost_usd = format_usd(copied.cost_pusd)
    if json:
        say_json({"database": to.address, "rows": dict(copied.rows), "cost_usd": cost_usd})
        return
    runs, requests = copied.rows["run"], copied.rows["request"]
    count = "1 run" if runs == 1 else f"{runs:,} runs"
    say(f"copied {count} with {requests:,} requests and ${cost_usd} to {to.address}; counts and sums agree")
