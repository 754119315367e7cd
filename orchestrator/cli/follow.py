"""``follow``: show a response as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, RunName, StageOfRow
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
        Parameter(metavar="N", help="Continue after this event; an interrupted follow prints the last one received."),
    ] = None,
    stage: StageOfRow = None,
    db: Database = None,
    config: ConfigFile = None,
) -> int:
    """Show a response as it grows: its text on standard output, its progress on standard error.

    A lost connection is resumed where it broke. If a response was created without `stream: true`, or the server
    cannot stream, the text comes at its end. Following changes nothing in the run.
    """
    from orchestrator.app.follow import FollowEnded, ResponseProgress, TextDelta

    place = after
    ended: FollowEnded | None = None
    ends_line = True
    try:
        async with opened(db, config) as orchestrator:
            async for event in orchestrator.follow(run, key, after=after, stage=stage):
                match event:
                    case TextDelta(text):
                        _write(text)
                        ends_line = text.endswith("\n")
                    case ResponseProgress():
                        place = event.sequence if event.sequence is not None else place
                        _print_progress(event)
                    case FollowEnded():
                        ended = event
    finally:
        if not ends_line:
            _write("\n")
        if ended is None and place is not None:
            at = f" --stage {stage}" if stage is not None else ""
            note(f"interrupted; continue with: orchestrator follow {run} {key}{at} --after {place}")
    if ended is None:
        return ExitCode.BUG
    note(f"{ended.status}: {ended.message}" if ended.message else ended.status)
    return ExitCode.OK if ended.ok else ExitCode.SOME_FAILED


def _write(text: str) -> None:
    with stdout_bytes() as out:
        out.write(text.encode())


def _print_progress(event: ResponseProgress) -> None:
    note(f"{event.what} ({event.item})" if event.item else event.what)
