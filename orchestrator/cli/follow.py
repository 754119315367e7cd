"""``follow``: show a response as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, RunName
from orchestrator.cli.output import note, stdout_bytes
from orchestrator.cli.session import opened
from orchestrator.core.errors import ExitCode

if TYPE_CHECKING:
    from orchestrator.app.follow import FollowEnded, ResponseProgress

__all__ = ["follow"]


async def follow(
    run: RunName,
    key: Annotated[str, Parameter(name="KEY", help="The row's key, as in the export.")],
    /,
    *,
    after: Annotated[
        int | None,
        Parameter(metavar="N", help="Go on behind this event; an interrupted follow says which one it heard last."),
    ] = None,
    db: Database = None,
    config: ConfigFile = None,
) -> int:
    """Show a response as it grows: its text on standard output, its progress on standard error.

    A lost connection is taken up where it broke. Of a response that was not created with `stream: true`, or by a
    server that cannot stream, the text comes at its end. Following changes nothing; the run goes on by itself.
    """
    from orchestrator.app.follow import FollowEnded, ResponseProgress, TextDelta

    place = after
    over: FollowEnded | None = None
    ends_line = True
    try:
        async with opened(db, config) as orchestrator:
            async for heard in orchestrator.follow(run, key, after=after):
                match heard:
                    case TextDelta(text):
                        _write(text)
                        ends_line = text.endswith("\n")
                    case ResponseProgress():
                        place = heard.sequence if heard.sequence is not None else place
                        _tell(heard)
                    case FollowEnded():
                        over = heard
    finally:
        if not ends_line:
            _write("\n")
        if over is None and place is not None:
            note(f"interrupted; go on with: orchestrator follow {run} {key} --after {place}")
    if over is None:
        return ExitCode.BUG
    note(f"{over.status}: {over.message}" if over.message else over.status)
    return ExitCode.OK if over.ok else ExitCode.SOME_FAILED


def _write(text: str) -> None:
    with stdout_bytes() as out:
        out.write(text.encode())


def _tell(heard: ResponseProgress) -> None:
    note(f"{heard.what} ({heard.item})" if heard.item else heard.what)
