"""From one row to the rows of the next stages: pure, apart from the function that the user names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.core.errors import SpecError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.requests.expressions import CannotRender, Expression, compile_expression
from orchestrator.job.requests.imports import CannotImport, imported
from orchestrator.job.spec import Job
from orchestrator.job.stages.pipeline import INPUT, Columns, StagePlan, stage_plans
from orchestrator.job.stages.text_parts import text_parts
from orchestrator.policy.errors.answer_schema import asked_schema
from orchestrator.policy.pricing.tokens import token_counter

__all__ = [
    "FAILURE",
    "GroupedRow",
    "Made",
    "MadeGroup",
    "MadeRow",
    "Pipeline",
    "SettledRow",
    "StageFailed",
    "group_key",
]

Row = Mapping[str, Any]

# Marks a row of which no request can be made, and says why.
FAILURE = "stage_failure"


class StageFailed(Exception):
    """No rows can be made of a row. The message holds no text of the row."""


@fast_dataclass(kw_only=False)
class MadeRow:
    """A row of a stage with a request; with a ``failure``, one for which no request can be made."""

    stage: str
    key: str
    row: Row
    failure: str | None = None


@fast_dataclass(kw_only=False)
class MadeGroup:
    """A row that waits for the rows ``members`` of the stage ``of``, which are made at the same time."""

    stage: str
    key: str
    row: Row
    of: str
    members: list[str]


@fast_dataclass(kw_only=False)
class GroupedRow:
    """A settled row that belongs to a group of a stage; ``row`` is what the group shares."""

    stage: str
    key: str
    row: Row


@dataclass(slots=True)
class Made:
    """What is made of one row."""

    rows: list[MadeRow] = field(default_factory=list)
    groups: list[MadeGroup] = field(default_factory=list)
    grouped: list[GroupedRow] = field(default_factory=list)


@fast_dataclass(kw_only=False)
class SettledRow:
    """A settled row of a stage; ``answer`` is the text of its answer, None if it failed."""

    key: str
    row: Row
    answer: str | None


@fast_dataclass(kw_only=False)
class _Parent:
    key: str
    row: Row


class _Stage:
    """A stage with its templates compiled."""

    def __init__(self, plan: StagePlan, job: Job, allowed: Collection[str] | None) -> None:
        section = plan.section
        self.plan = plan
        self.where = _compiled(section.where)
        expand = section.expand
        self.text = _compiled(expand.text) if expand is not None else None
        self.items = _compiled(expand.list) if expand is not None else None
        self.function: Callable[..., Any] | None = (
            imported(section.rows, job.base_dir, allowed=allowed) if section.rows is not None else None
        )
        self.has_format = asked_schema(section.request or {}) is not None

    def keeps(self, row: Row) -> bool:
        """Whether ``where`` lets a row through."""
        if self.where is None:
            return True
        value = self.where(row)
        if isinstance(value, str):
            return value.strip().lower() not in ("", "false", "0", "none", "null")
        return bool(value)

    def children(self, key: str, row: Row) -> Iterator[tuple[str, Row]]:
        """The rows that one row becomes, with their keys."""
        made = self._made(row)
        most = self.plan.section.expand.at_most if self.plan.section.expand is not None else 1000
        for number, columns in enumerate(made, start=1):
            if number > most:
                raise StageFailed(f"the row would become more than {most:,} rows")
            yield f"{key}#{number}", {**row, **columns}

    def _made(self, row: Row) -> Iterable[Row]:
        expand = self.plan.section.expand
        if self.function is not None:
            return _rows_of(self.function(dict(row)))
        if expand is not None and self.text is not None and expand.max_tokens is not None:
            parts = text_parts(
                str(self.text(row)),
                max_tokens=expand.max_tokens,
                overlap=expand.overlap,
                count=token_counter().count_all,
            )
            return _numbered("part", parts)
        items = self.items(row) if self.items is not None else []
        if not isinstance(items, list):
            raise StageFailed("expand.list gives no list")
        return _numbered("item", items)


def _compiled(text: str | None) -> Expression | None:
    return None if text is None else compile_expression(text, native=True)


def _numbered(name: str, values: list[Any]) -> list[Row]:
    return [
        {name: value, f"{name}_number": number, f"{name}_count": len(values)}
        for number, value in enumerate(values, start=1)
    ]


def _rows_of(returned: Any) -> Iterable[Row]:
    if returned is None:
        return ()
    rows = [returned] if isinstance(returned, dict) else list(returned)
    if not all(isinstance(each, dict) for each in rows):
        raise StageFailed("the function returns something else than dicts")
    return rows


class Pipeline:
    """All stages of a job, ready to make rows."""

    def __init__(self, job: Job, *, allowed: Collection[str] | None = None) -> None:
        """``allowed`` are the modules from elsewhere that ``rows`` may name, None all; raises ``SpecError``."""
        self.plans = stage_plans(job.stages or {}, job.included_columns)
        try:
            self._stages = {name: _Stage(plan, job, allowed) for name, plan in self.plans.items()}
        except CannotImport as error:
            where = str(job.source) if job.source is not None else None
            raise SpecError(f"stages: rows: {error.reason}", where=where, hint=error.hint) from error
        self._first = [plan for plan in self.plans.values() if plan.section.from_ == INPUT]

    @property
    def requesting(self) -> list[StagePlan]:
        """The stages with a request, in their order."""
        return [plan for plan in self.plans.values() if plan.section.request is not None]

    def of_input(self, key: str, row: Row) -> Made:
        """What is made of a row of the input."""
        made = Made()
        self._pass_to(self._first, key, row, None, made)
        return made

    def of_settled(self, stage: str, settled: SettledRow) -> Made:
        """What is made of a settled row; of a failed one only its place in groups."""
        made = Made()
        consumers = [each for each in self.plans[stage].consumers if not each.by_parent_at_once]
        if settled.answer is None:
            is_whole = FAILURE not in settled.row or not self.plans[stage].makes_several
            self._miss(consumers, settled, is_whole, made)
            return made
        row = self.with_answer(stage, settled)
        for plan in consumers:
            if plan.section.group_by is not None:
                self._group(plan, settled, row, made)
            else:
                self._pass_to([plan], settled.key, row, None, made)
        return made

    def with_answer(self, stage: str, settled: SettledRow) -> Row:
        """A settled row with its answer as a column of the stage's name."""
        if settled.answer is None:
            return settled.row
        answer: Any = settled.answer
        if self._stages[stage].has_format:
            try:
                answer = orjson.loads(answer)
            except orjson.JSONDecodeError:
                answer = settled.answer
        return {**settled.row, stage: answer}

    def children(self, stage: str, key: str, row: Row) -> Iterator[tuple[str, Row]]:
        """The rows that a stage makes of one row, with their keys; raises whatever the row or a function raises."""
        return self._stages[stage].children(key, row)

    def keeps(self, stage: str, row: Row) -> bool:
        """Whether a stage takes a row; raises ``StageFailed``."""
        try:
            return self._stages[stage].keeps(row)
        except CannotRender as error:
            raise StageFailed(f"where: {error}") from None

    def _miss(self, plans: Iterable[StagePlan], failed: SettledRow, is_whole: bool, made: Made) -> None:
        """Let groups lack a failed row that would have come to them; ``is_whole`` until it was to become several."""
        for plan in plans:
            if plan.section.group_by is None:
                self._miss(plan.consumers, failed, is_whole and not plan.section.multiplies, made)
            elif plan.section.group_columns is not None or (is_whole and "#" in failed.key):
                self._join_group(plan, failed, failed.row, made)

    def _group(self, plan: StagePlan, settled: SettledRow, row: Row, made: Made) -> None:
        try:
            if not self.keeps(plan.name, row):
                return
        except StageFailed:
            pass  # the group lacks it, which is decided when the group is complete
        self._join_group(plan, settled, row, made)

    @staticmethod
    def _join_group(plan: StagePlan, settled: SettledRow, row: Row, made: Made) -> None:
        columns = plan.section.group_columns
        if columns is None:
            key = settled.key.rpartition("#")[0]
        elif all(each in row for each in columns):
            key = group_key([row[each] for each in columns])
        else:
            return
        shared = {name: row[name] for name in (columns or ()) if name in row}
        made.grouped.append(GroupedRow(plan.name, key, {**_kept(row, plan.columns), **shared}))

    def _pass_to(self, plans: list[StagePlan], key: str, row: Row, parent: _Parent | None, made: Made) -> None:
        for plan in plans:
            try:
                for child_key, child, child_parent in self._through(plan, key, row, parent):
                    if plan.section.request is None:
                        self._pass_to(plan.consumers, child_key, child, child_parent, made)
                    else:
                        self._add(plan, MadeRow(plan.name, child_key, _kept(child, plan.columns)), child_parent, made)
            except Exception as error:  # noqa: BLE001 – a row may hold anything, and a function may raise anything
                self._fail(plan, MadeRow(plan.name, key, row, _message(plan, error)), parent, made)

    def _through(self, plan: StagePlan, key: str, row: Row, parent: _Parent | None) -> list[tuple[str, Row, Any]]:
        stage = self._stages[plan.name]
        if not stage.keeps(row):
            return []
        if not plan.section.multiplies:
            return [(key, row, parent)]
        return [(child_key, child, _Parent(key, row)) for child_key, child in stage.children(key, row)]

    def _fail(self, plan: StagePlan, failed: MadeRow, parent: _Parent | None, made: Made) -> None:
        targets = [plan]
        while targets:
            target = targets.pop()
            if target.section.request is None:
                targets += target.consumers
            elif not any(each.key == failed.key and each.stage == target.name for each in made.rows):
                # With what is known of its columns, so that it is missing in its own groups only.
                row = MadeRow(target.name, failed.key, _kept(failed.row, target.columns), failed.failure)
                self._add(target, row, parent, made)

    def _add(self, plan: StagePlan, row: MadeRow, parent: _Parent | None, made: Made) -> None:
        made.rows.append(row)
        for group in plan.consumers:
            if group.by_parent_at_once and parent is not None:
                self._join(group, row, parent, made)

    def _join(self, group: StagePlan, row: MadeRow, parent: _Parent, made: Made) -> None:
        for each in made.groups:
            if each.stage == group.name and each.key == parent.key:
                each.members.append(row.key)
                return
        kept = _kept(parent.row, group.columns)
        made.groups.append(MadeGroup(group.name, parent.key, kept, row.stage, [row.key]))


def _message(plan: StagePlan, error: Exception) -> str:
    is_safe = isinstance(error, (StageFailed, CannotRender))
    return f"stage {plan.name}: {error if is_safe else type(error).__name__}"


def _kept(row: Row, columns: Columns) -> dict[str, Any]:
    if columns is None:
        return dict(row)
    return {name: row[name] for name in sorted(columns) if name in row}


def group_key(values: list[Any]) -> str:
    """The key of the group of rows that have these values in the columns of the group."""
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return orjson.dumps(values[0] if len(values) == 1 else values).decode()
