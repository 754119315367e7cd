"""``schedule``: when a job is due next, and the configuration that calls it."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, JobFile, Json
from orchestrator.cli.output import say, say_json
from orchestrator.cli.session import find_places, read_config
from orchestrator.report.schedulers import DueCall, Scheduler, configuration

if TYPE_CHECKING:
    from orchestrator.cli.session import Places
    from orchestrator.job.scheduled_job import ScheduledJob
    from orchestrator.policy.timetable import Slot, Timetable

__all__ = ["schedule"]

_SHOWN_SLOTS = 5
_CATCH_UP = {
    "latest": "of several that were missed, the latest is run",
    "all": "all that were missed are run, the oldest first",
    "none": "one that is not begun within an hour is left out",
}


async def schedule(
    job: JobFile,
    /,
    *,
    as_: Annotated[
        Scheduler | None,
        Parameter(name="--as", help="Print the configuration with which this calls the job; nothing is installed."),
    ] = None,
    config: ConfigFile = None,
    db: Database = None,
    json: Json = False,
) -> None:
    """Show when a job is due next, or print what calls it then. Nothing wakes up by itself."""
    from orchestrator.job.scheduled_job import read_scheduled_job

    scheduled = read_scheduled_job(job)
    if as_ is not None:
        # The whole job, so that what is printed will not fail in the night.
        _check(job, places := find_places(db, config, os.environ, Path.cwd()))
        say(configuration(_call(scheduled, places, with_program=as_ != "k8s"), as_).rstrip("\n"))
        return
    now = datetime.now(UTC).timestamp()
    timetable = scheduled.schedule.timetable
    slots = list(islice(timetable.after(now), _SHOWN_SLOTS))
    if json:
        say_json({"job": scheduled.name, "slots": [_slot_object(each, timetable) for each in slots]})
        return
    for line in _in_words(scheduled, slots, now):
        say(line)


def _check(job: Path, places: Places) -> None:
    from orchestrator.job.documents.document import Document
    from orchestrator.job.spec import check_document

    config, _ = read_config(places)
    check_document(Document.read(job, kind="job"), config.allow_modules)


def _call(job: ScheduledJob, places: Places, *, with_program: bool) -> DueCall:
    config, database = read_config(places)
    given = [("--config", places.config), ("--db", database)]
    options = [word for name, value in given if value is not None for word in (name, _seen(value))]
    return DueCall(
        name=job.name,
        program=_program() if with_program else "orchestrator",
        folder=Path.cwd(),
        job=_seen(job.path),
        options=options,
        key=None if config.provider.is_embedded else config.provider.api_key_env,
    )


def _seen(path: str | Path) -> str:
    """A path from the working directory where it is below that, else the whole one; what is no path stays."""
    text = str(path)
    if not Path(text).exists() and "://" in text:
        return text
    whole = Path(text).absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)


def _program() -> str:
    """Where the command is: a scheduler has another search path."""
    beside = Path(sys.executable).with_name("orchestrator")
    return str(beside) if beside.exists() else shutil.which("orchestrator") or "orchestrator"


def _slot_object(slot: Slot, timetable: Timetable) -> dict[str, str | None]:
    ends = {"until": timetable.closes_at(slot), "late_after": timetable.late_at(slot)}
    return {"date": slot.day.isoformat(), "at": _utc(slot.at)} | {
        name: None if at is None else _utc(at) for name, at in ends.items()
    }


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _in_words(job: ScheduledJob, slots: list[Slot], now: float) -> list[str]:
    plan = job.schedule
    lines = [f"{job.name} is due at {plan.at!r} in {plan.zone}; next:", ""]
    for slot in slots:
        there = datetime.fromtimestamp(slot.at, plan.timetable.zone)
        hours, minutes = divmod(round((slot.at - now) / 60), 60)
        until = f"in {hours} h {minutes:02} min" if hours < 100 else f"in {hours // 24} days"
        utc = datetime.fromtimestamp(slot.at, UTC)
        lines.append(f"  {job.name}-{slot.day}   {there:%a %H:%M %Z}   {utc:%Y-%m-%d %H:%M} UTC   {until}")
    lines.append("")
    if plan.until is not None:
        lines.append(f"  nothing new is sent after {plan.until}; the rest waits for the next night")
    if plan.late_after is not None:
        lines.append(
            f"  one that is not finished at {plan.late_after} is late, which receivers of `late` are notified of"
        )
    lines.append(f"  {_CATCH_UP[plan.catch_up]}")
    lines += ["", f"What calls it: orchestrator schedule {job.path} --as cron, systemd, k8s or airflow"]
    return lines
