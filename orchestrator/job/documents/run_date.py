"""``{{ run.date }}`` in a job file: the day for which a run stands, put in before the file is checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.document import Document
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem
from orchestrator.job.documents.values import parse_duration

__all__ = ["RunDate", "date_document"]

_DAY_S = 86_400

# Where a template may name the date; a name or a comment may hold such words by accident.
_FIELDS = ("input", "output", "files", "request", "stages")
# What is no template of a row, and becomes plain text.
_PLAIN = {("input", "path"), ("output",), ("files",)}
_IN_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WORD = re.compile(r"(?<![\w.\]])run\.(?:(name)\b|date\b(?:\.(\w+))?)")
_PARTS = {"year": "%Y", "month": "%m", "day": "%d"}


@fast_dataclass(kw_only=False)
class RunDate:
    """The day for which a run stands, and the run's name."""

    day: date
    name: str

    def before(self, days: int) -> RunDate:
        """The same run so many days earlier."""
        return RunDate(self.day - timedelta(days=days), self.name)

    def text_of(self, found: re.Match[str]) -> str:
        """What a word such as ``run.date.year`` stands for."""
        if found[1] is not None:
            return self.name
        return self.day.isoformat() if found[2] is None else self.day.strftime(_PARTS[found[2]])


def date_document(document: Document, day: date | None, now: datetime, *, is_trial: bool) -> dict[str, Any]:
    """Put the date into a job file; returns what the job must know of it.

    A run stands for a day if one is given, if the file names it, or if the job has a schedule; a trial for none.
    Raises ``SpecError`` if the file names the date where it cannot stand.
    """
    data = document.data
    dated = {name: data[name] for name in _FIELDS if name in data and _reads_run(data[name])}
    today = now.astimezone(_zone(data)).date()
    if day is not None and day > today + timedelta(days=1):
        hint = "its answers would count as later than those of today"
        raise UsageError(f"{day} is in the future", hint=hint)
    if not dated and day is None and not data.get("schedule"):
        if _lookback_days(data):
            raise document.error([_without_date()])
        return {}
    run = RunDate(day or today, f"{data.get('name')}-{day or today}")
    if problems := [problem for name, value in dated.items() for problem in _problems(value, (name,))]:
        raise document.error(problems)
    _read_by_days(document, run)
    for name, value in dated.items():
        data[name] = _filled(value, run, (name,))
    return {"run": None if is_trial else run, "has_dated_requests": _asks_by_date(dated)}


def _zone(data: Mapping[str, Any]) -> ZoneInfo:
    schedule = data.get("schedule")
    try:
        return ZoneInfo(schedule["zone"] if isinstance(schedule, dict) else "UTC")
    except (KeyError, TypeError, ValueError, OSError):
        # The schedule itself is checked with the other fields.
        return ZoneInfo("UTC")


def _read_by_days(document: Document, run: RunDate) -> None:
    """For an input with a date in its path: the paths of the days before, and that none of them is all there is."""
    place, increments = document.data.get("input"), document.data.get("increments")
    path = place.get("path") if isinstance(place, dict) else None
    if not isinstance(place, dict) or not isinstance(path, str) or not _reads_run(path):
        if _lookback_days(document.data):
            raise document.error([_without_date()])
        return
    days = _lookback_days(document.data)
    place["earlier_paths"] = [_plain(path, run.before(number)) for number in range(1, days + 1)]
    if isinstance(increments, dict):
        increments.setdefault("removed", "keep")


def _lookback_days(data: Mapping[str, Any]) -> int:
    """How many days before its own a run reads; 0 if that is not given, or wrong."""
    place = data.get("input")
    try:
        return math.ceil(parse_duration(place["lookback"]) / _DAY_S) if isinstance(place, dict) else 0
    except (KeyError, ValueError):
        return 0


def _without_date() -> ValidationProblem:
    hint = "name the day in input.path, such as data/{{ run.date }}.jsonl"
    return ValidationProblem(("input", "lookback"), "needs a path that names run.date", hint)


def _asks_by_date(dated: Mapping[str, Any]) -> bool:
    """Whether a request that is sent names the date; in metadata it decides nothing."""
    stages = dated.get("stages")
    requests = [dated.get("request"), *(stages.values() if isinstance(stages, dict) else ())]
    return any(
        _reads_run({name: value for name, value in each.items() if name != "metadata"})
        for each in requests
        if isinstance(each, dict)
    )


def _reads_run(value: Any) -> bool:
    """Whether a text, or any text in it, names the run or its date."""
    match value:
        case str():
            return any(_WORD.search(part) for part in _IN_BRACES.findall(value))
        case dict():
            return any(_reads_run(inner) for inner in value.values())
        case list():
            return any(_reads_run(inner) for inner in value)
    return False


def _filled(value: Any, run: RunDate, path: FieldPath) -> Any:
    match value:
        case str() if _reads_run(value):
            return _plain(value, run) if path in _PLAIN else _as_literals(value, run)
        case dict():
            return {name: _filled(inner, run, (*path, name)) for name, inner in value.items()}
        case list():
            return [_filled(inner, run, (*path, index)) for index, inner in enumerate(value)]
    return value


def _plain(text: str, run: RunDate) -> str:
    return _IN_BRACES.sub(lambda part: _word_alone(part[0], run), text)


def _word_alone(part: str, run: RunDate) -> str:
    word = _WORD.fullmatch(part[2:-2].strip())
    return part if word is None else run.text_of(word)


def _as_literals(text: str, run: RunDate) -> str:
    return _IN_BRACES.sub(lambda part: _WORD.sub(lambda word: f'"{run.text_of(word)}"', part[0]), text)


def _problems(value: Any, path: FieldPath) -> list[ValidationProblem]:
    match value:
        case str():
            return [problem for part in _IN_BRACES.findall(value) for problem in _problems_of_part(part, path)]
        case dict():
            return [problem for name, inner in value.items() for problem in _problems(inner, (*path, name))]
        case list():
            return [problem for index, inner in enumerate(value) for problem in _problems(inner, (*path, index))]
    return []


def _problems_of_part(part: str, path: FieldPath) -> list[ValidationProblem]:
    words = [*_WORD.finditer(part)]
    for word in words:
        if word[2] is not None and word[2] not in _PARTS:
            hint = "write {{ run.date }}, or put parts of it together: {{ run.date.year }}{{ run.date.month }}"
            return [ValidationProblem(path, f"run.date has year, month and day, and no {word[2]}", hint)]
    if words and path in _PLAIN and _WORD.fullmatch(part[2:-2].strip()) is None:
        return [ValidationProblem(path, "may hold {{ run.date }} and its parts, and nothing that computes")]
    return []
