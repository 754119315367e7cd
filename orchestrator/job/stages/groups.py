"""What a group makes when its rows are settled: one request, a tree of them, a failure, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.stages.expansion import Pipeline, Row, SettledRow, StageFailed
from orchestrator.job.stages.packing import RowTooLarge, packs
from orchestrator.job.stages.pipeline import MISSING, Columns
from orchestrator.job.stages.read_columns import ROWS
from orchestrator.job.stages.stage_section import AtMost, StageSection
from orchestrator.policy.pricing.tokens import token_counter

__all__ = ["MERGES", "Ask", "Drop", "FailGroup", "Group", "GroupOutcome", "Split", "complete"]

# Marks the row of a request that merges the answers of parts.
MERGES = "merges_parts"


@fast_dataclass
class Group:
    """A group whose members are settled.

    ``level`` is 0 if they are rows of the stage before, else how often its rows were asked in parts. ``lost`` are
    failed rows before it of which it is not known to which group they belong.
    """

    stage: str
    key: str
    row: Row
    members: Sequence[SettledRow]
    level: int = 0
    lost: int = 0


@fast_dataclass(kw_only=False)
class Ask:
    """The group is one request, with this row."""

    row: Row
    missing: int = 0


@fast_dataclass(kw_only=False)
class Split:
    """The group is too large: each part is a request, and their answers are the members of the next level."""

    rows: Sequence[tuple[str, Row]]
    missing: int = 0


@fast_dataclass(kw_only=False)
class FailGroup:
    """The group cannot be asked."""

    code: str
    message: str


@fast_dataclass(kw_only=False)
class Drop:
    """No row is left in the group, so there is nothing to ask."""


GroupOutcome: TypeAlias = Ask | Split | FailGroup | Drop


def complete(pipeline: Pipeline, group: Group) -> GroupOutcome:
    """Decide what to do with a group; its members are in their order."""
    plan = pipeline.plans[group.stage]
    section = plan.section
    answered = [member for member in group.members if member.answer is not None]
    failed = len(group.members) - len(answered)
    refusal = _incomplete(section, failed + group.lost, len(group.members) + group.lost)
    if refusal is not None:
        return refusal
    if group.level:
        rows = [pipeline.with_answer(group.stage, SettledRow(each.key, {}, each.answer)) for each in answered]
    else:
        try:
            rows = _taken(pipeline, group.stage, section, answered)
        except StageFailed as error:
            return FailGroup("stage_failed", f"stage {group.stage}: {error}")
    if not rows:
        return FailGroup("group_incomplete", f"all {failed:,} of its rows failed") if failed else Drop()
    return _packed(section, group, [_kept(row, plan.members) if not group.level else row for row in rows], failed)


def _taken(pipeline: Pipeline, stage: str, section: StageSection, members: Sequence[SettledRow]) -> list[Row]:
    whole = [pipeline.with_answer(section.from_, member) for member in members]
    return [row for row in whole if pipeline.keeps(stage, row)]


def _incomplete(section: StageSection, failed: int, rows: int) -> FailGroup | None:
    allowed = section.missing
    if not failed or allowed == "any":
        return None
    if isinstance(allowed, AtMost) and failed <= allowed.share * rows:
        return None
    return FailGroup("group_incomplete", f"{failed:,} of {rows:,} rows are missing")


def _packed(section: StageSection, group: Group, rows: Sequence[Row], missing: int) -> GroupOutcome:
    limit = section.max_input_tokens
    try:
        parts = _parts(rows, limit, merging=group.level > 0)
    except RowTooLarge as error:
        message = f"one of its rows needs about {error.tokens:,} tokens, more than max_input_tokens ({limit:,})"
        return FailGroup("row_too_large", f"{message}; expand makes smaller rows")
    merges = {MERGES: True} if group.level else {}
    made = [{**group.row, ROWS: list(rows[part.start : part.stop]), MISSING: missing, **merges} for part in parts]
    if len(made) == 1:
        return Ask(made[0], missing)
    keys = [f"{group.key}/{group.level}.{number}" for number in range(len(made))]
    return Split(list(zip(keys, made, strict=True)), missing)


def _parts(rows: Sequence[Row], limit: int | None, *, merging: bool) -> list[range]:
    if limit is None:
        return [range(len(rows))]
    counts = token_counter().count_all([orjson.dumps(row).decode() for row in rows])
    if not merging:
        return packs(counts, at_most=limit)
    # By the check of the job any two answers fit; a count that is an estimate must not keep a tree from ending.
    return packs([min(count, limit // 2) for count in counts], at_most=limit)


def _kept(row: Mapping[str, Any], columns: Columns) -> Row:
    return row if columns is None else {name: row[name] for name in sorted(columns) if name in row}
