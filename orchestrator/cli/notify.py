"""``notify test``: sends a notice to every receiver of the config."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Json
from orchestrator.cli.output import say, say_json
from orchestrator.core.errors import ExitCode, UsageError
from orchestrator.stores.database_address import shown_address

__all__ = ["notify"]


async def notify(
    action: Annotated[Literal["test"], Parameter(name="ACTION", help="Only `test`.")],
    /,
    *,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Send a test notice to every receiver that the config names under `notify`."""
    del action  # the only one there is
    from rich.text import Text

    from orchestrator.app.run_notices import RunNotices
    from orchestrator.config import load_config
    from orchestrator.core.clock import SystemClock

    settings = load_config(config)
    if not settings.notify:
        raise UsageError(
            "the config names no receiver", hint="add a section notify; see docs/how-to/notifications.md"
        )
    tried = await RunNotices(settings.notify, shown_address(str(settings.database)), SystemClock()).test()
    if json:
        say_json([{"receiver": each.receiver, "error": each.error} for each in tried])
    else:
        for each in tried:
            say(Text(f"{'ok  ' if each.error is None else 'FAIL'}  {each.receiver}  {each.error or ''}".rstrip()))
    return ExitCode.USAGE if any(each.error for each in tried) else ExitCode.OK
