"""``run --dry-run``: what a run would read and send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.output import say, say_json

if TYPE_CHECKING:
    from orchestrator.app.dry_run import DryRun
    from orchestrator.core.increments import Comparison

__all__ = ["show_dry_run"]

_SHOWN_ROWS = 10


def show_dry_run(dry: DryRun, comparison: Comparison | None, *, json: bool) -> None:
    """Print the counts, the bad rows, how rows compare with the job's dataset, and the first request's body."""
    import orjson
    from rich.text import Text

    from orchestrator.app.forecast.stages_text import reuse_words, stages_object, stages_table
    from orchestrator.core import exact_json
    from orchestrator.report.comparison import comparison_object, comparison_table

    first = exact_json.loads(dry.first_request) if dry.first_request is not None else None
    if json:
        skipped, invalid = (
            [{"where": row.where, "reason": row.reason} for row in rows] for rows in (dry.skipped, dry.invalid)
        )
        compared = None if comparison is None else comparison_object(comparison)
        counts = {"rows": dry.rows, "reused": dry.reused, "skipped": skipped, "invalid": invalid}
        staged = {} if dry.forecast is None else {"stages": stages_object(dry.forecast)}
        say_json({**counts, "increment": compared, "first_request": first, **staged})
        return
    text = Text(f"{dry.rows:,} rows can be {'sent' if dry.forecast is None else 'read'}", "bold")
    if dry.reused and dry.forecast is None:
        text.append(f", {dry.reused:,} of them are reused from earlier runs")
    if dry.skipped:
        text.append(f", {len(dry.skipped):,} bad rows would be skipped")
    if dry.invalid:
        text.append(f", {len(dry.invalid):,} would fail as row_invalid")
    for row in (*dry.skipped[:_SHOWN_ROWS], *dry.invalid[:_SHOWN_ROWS]):
        text.append(f"\n  {row.where}: {row.reason}", "not bold")
    if comparison is not None:
        text.append("\n\n").append_text(comparison_table(comparison))
    if dry.forecast is not None:
        text.append("\n\n").append_text(stages_table(dry.forecast))
        if (words := reuse_words(dry.forecast)) is not None:
            text.append(f"\n\n{words}", "not bold")
    if first is not None:
        text.append("\n\nfirst request\n")
        text.append(exact_json.dumps(first, option=orjson.OPT_INDENT_2).decode(), "not bold")
    text.append("\n\nnothing was sent", "not bold")
    say(text)
