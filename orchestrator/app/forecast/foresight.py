"""What the stages of a job would ask: exactly where answers are known, else as ranges.

Pure: the caller measures the requests that are foreseen, and says what is known of their answers. For an answer that
is not known a stand-in is put into the row, together with the most tokens that the answer can have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.app.forecast.stand_ins import stand_in_text
from orchestrator.app.forecast.trees import Tree, tree_of
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.stages.expansion import Made, Pipeline, SettledRow, StageFailed, group_key
from orchestrator.job.stages.groups import MERGES, Ask, FailGroup, Group, Split, complete
from orchestrator.job.stages.pipeline import MISSING, Columns, StagePlan
from orchestrator.job.stages.read_columns import ROWS, columns_read, texts_of
from orchestrator.policy.errors.answer_schema import asked_schema
from orchestrator.policy.pricing.tokens import TokenCounter

__all__ = ["Expected", "Foreseen", "Foresight", "Range"]

Row = Mapping[str, Any]
# The most tokens of a value that is not known; None: no bound.
Unseen = Mapping[str, int | None]

_IN_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# A function may make as many rows of one.
_MOST_OF_FUNCTION = 1_000


@fast_dataclass(kw_only=False)
class Range:
    """A number that lies between two; ``most`` is None if it has no bound."""

    least: int
    most: int | None

    def __add__(self, other: Range) -> Range:
        return Range(self.least + other.least, _sum(self.most, other.most))


@fast_dataclass
class Expected:
    """What is known of the answer of a request: its ``text``, that there will be none, or the most tokens of it."""

    text: str | None = None
    failed: bool = False
    most_tokens: int | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Foreseen:
    """Requests of a stage, ``least`` to ``most`` of them; one that is exact is known as it would be sent.

    ``tokens`` come in addition to those of the row, in each of the requests. ``is_part`` says that nothing is made of
    the answers.
    """

    stage: str
    key: str
    row: Row
    where: str
    unseen: Unseen = field(default_factory=dict)
    tokens: Range = Range(0, 0)
    least: int = 1
    most: int = 1
    is_part: bool = False
    failure: str | None = None
    worker_config: _Group | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it is one request whose fields are known."""
        return not self.unseen and not self.is_part and (self.least, self.most) == (1, 1)


@dataclass(slots=True)
class _Member:
    settled: SettledRow
    unseen: Unseen
    least: int
    most: int


@dataclass(eq=False, slots=True, kw_only=True)
class _Group:
    """A group that waits for ``awaits`` requests, or for all rows of the stage before it."""

    stage: str
    key: str
    row: Row
    where: str
    unseen: Unseen = field(default_factory=dict)
    members: list[_Member] = field(default_factory=list)
    awaits: int = 0
    level: int = 0

    @property
    def is_exact(self) -> bool:
        return not self.unseen and all(not each.unseen and each.least == each.most == 1 for each in self.members)


class Foresight:
    """Makes the rows of the stages as a run would, from the first stage to the last."""

    def __init__(self, pipeline: Pipeline, counter: TokenCounter) -> None:
        self._pipeline = pipeline
        self._counter = counter
        self._waiting: dict[str, list[Foreseen]] = defaultdict(list)
        # Groups by parent, by the requests that they wait for; groups by column; rows whose group is not known.
        self._awaited: dict[tuple[str, str], list[_Group]] = defaultdict(list)
        self._groups: dict[str, dict[str, _Group]] = defaultdict(dict)
        self._loose: dict[str, list[_Member]] = defaultdict(list)
        # Groups by parent whose members depend on answers.
        self._parents: dict[tuple[str, str], _Group] = {}
        self._stand_ins = {
            plan.name: stand_in_text(asked_schema(plan.section.request or {})) for plan in pipeline.requesting
        }
        # How many groups of each stage would fail.
        self.failed_groups: dict[str, int] = defaultdict(int)

    def of_input(self, key: str, row: Row, where: str) -> None:
        """Take a row of the input."""
        self._take(self._pipeline.of_input(key, row), where)

    def take(self, stage: str) -> list[Foreseen]:
        """The requests of a stage that were foreseen since the last call."""
        return self._waiting.pop(stage, [])

    def close(self, stage: str) -> None:
        """No further row comes to a stage: its groups by column are complete."""
        groups, loose = self._groups.pop(stage, {}), self._loose.pop(stage, [])
        for group in groups.values():
            if loose:
                # Any of the rows whose group is not known may come to it.
                group.unseen = {**group.unseen, ROWS: 0}
            self._ask(group)
        if loose:
            self._ask_loose(self._pipeline.plans[stage], loose, may_join=bool(groups))

    def settle(self, request: Foreseen, answer: Expected) -> None:
        """Take the answer of a request, and make what follows of it."""
        if request.is_part and request.worker_config is None:
            return
        is_known = answer.failed or answer.text is not None
        text = None if answer.failed else answer.text if is_known else self._stand_ins[request.stage]
        unseen = request.unseen if is_known else {**request.unseen, request.stage: answer.most_tokens}
        member = _Member(SettledRow(request.key, request.row, text), unseen, request.least, request.most)
        if request.worker_config is not None:
            self._join(request.worker_config, member)
            return
        for group in self._awaited.pop((request.stage, request.key), []):
            self._join(group, member)
        if is_known and request.is_exact:
            made = self._pipeline.of_settled(request.stage, member.settled)
            self._take(made, request.where)
            for grouped in made.grouped:
                self._group(grouped.stage, grouped.key, grouped.row, request.where).members.append(member)
        elif not answer.failed:
            self._pass_on_unseen(request, member)

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────

    def _take(self, made: Made, where: str) -> None:
        for row in made.rows:
            foreseen = Foreseen(stage=row.stage, key=row.key, row=row.row, where=where, failure=row.failure)
            self._waiting[row.stage].append(foreseen)
        for each in made.groups:
            group = _Group(stage=each.stage, key=each.key, row=each.row, where=where, awaits=len(each.members))
            for key in each.members:
                self._awaited[each.of, key].append(group)

    def _group(self, stage: str, key: str, row: Row, where: str) -> _Group:
        return self._groups[stage].setdefault(key, _Group(stage=stage, key=key, row=row, where=where))

    def _join(self, group: _Group, member: _Member) -> None:
        group.members.append(member)
        group.awaits -= 1
        if not group.awaits:
            self._ask(group)

    def _ask(self, group: _Group) -> None:
        if not group.is_exact:
            self._ask_unseen(group)
            return
        members = [each.settled for each in group.members]
        outcome = complete(
            self._pipeline,
            Group(stage=group.stage, key=group.key, row=group.row, members=members, level=group.level),
        )
        match outcome:
            case Ask(row):
                self._add(group, group.key, row)
            case Split(rows):
                group.level, group.members, group.awaits = group.level + 1, [], len(rows)
                for key, row in rows:
                    self._add(group, key, row, worker_config=group)
            case FailGroup():
                self._fail(group)

    def _add(self, group: _Group, key: str, row: Row, **more: Any) -> None:
        self._waiting[group.stage].append(
            Foreseen(stage=group.stage, key=key, row=row, where=group.where, unseen=group.unseen, **more)
        )

    def _fail(self, group: _Group) -> None:
        self.failed_groups[group.stage] += 1
        failed = Foreseen(stage=group.stage, key=group.key, row=group.row, where=group.where)
        self.settle(failed, Expected(failed=True))

    # ── what depends on answers ───────────────────────────────────────────────────────────────────────────

    def _pass_on_unseen(self, request: Foreseen, member: _Member) -> None:
        row = self._pipeline.with_answer(request.stage, member.settled)
        made = _Unseen(row, member.unseen, request.where, request.least, request.most)
        for plan in self._pipeline.plans[request.stage].consumers:
            if plan.by_parent_at_once:
                continue
            if plan.section.group_by is None:
                self._through(plan, request.key, made, None)
            else:
                self._group_unseen(plan, request, member, row)

    def _group_unseen(self, plan: StagePlan, request: Foreseen, member: _Member, row: Row) -> None:
        columns = plan.section.group_columns
        if columns is not None and any(each in member.unseen for each in columns):
            self._loose[plan.name].append(member)
        elif columns is None or all(each in row for each in columns):
            key = request.key.rpartition("#")[0] if columns is None else group_key([row[each] for each in columns])
            shared = _kept(row, None if plan.columns is None else plan.columns.union(columns or ()))
            group = self._group(plan.name, key, shared, request.where)
            group.unseen = {**group.unseen, **_of(member.unseen, shared)}
            group.members.append(member)

    def _through(self, plan: StagePlan, key: str, made: _Unseen, parent: tuple[str, _Unseen] | None) -> None:
        """Make the rows of a stage, and of those that read it without asking, of a row with stand-ins."""
        least = self._least_kept(plan, made.row, made.unseen, made.least)
        if least is None:
            return
        made = made.times(least, made.most)
        for child_key, child, child_parent in self._children(plan, key, made, parent):
            if plan.section.request is None:
                for consumer in plan.consumers:
                    self._through(consumer, child_key, child, child_parent)
                continue
            kept = _kept(child.row, plan.columns)
            self._waiting[plan.name].append(
                Foreseen(
                    stage=plan.name,
                    key=child_key,
                    row=kept,
                    where=child.where,
                    unseen=_of(child.unseen, kept),
                    least=child.least,
                    most=child.most,
                )
            )
            for group in plan.consumers:
                if group.by_parent_at_once and child_parent is not None:
                    self._await(group, plan.name, child_key, child_parent)

    def _await(self, plan: StagePlan, of: str, key: str, parent: tuple[str, _Unseen]) -> None:
        parent_key, made = parent
        group = self._parents.get((plan.name, parent_key))
        if group is None:
            row = _kept(made.row, plan.columns)
            group = _Group(stage=plan.name, key=parent_key, row=row, where=made.where, unseen=_of(made.unseen, row))
            self._parents[plan.name, parent_key] = group
        group.awaits += 1
        self._awaited[of, key].append(group)

    def _least_kept(self, plan: StagePlan, row: Row, unseen: Unseen, least: int) -> int | None:
        """How many of ``least`` rows a stage takes at least; None if it takes none."""
        if plan.section.where is None:
            return least
        read = columns_read([plan.section.where])
        if read is None or not read.isdisjoint(unseen):
            return 0
        try:
            return least if self._pipeline.keeps(plan.name, row) else None
        except StageFailed:
            return None

    def _children(
        self, plan: StagePlan, key: str, made: _Unseen, parent: tuple[str, _Unseen] | None
    ) -> Iterator[tuple[str, _Unseen, tuple[str, _Unseen] | None]]:
        section = plan.section
        if not section.multiplies:
            yield key, made, parent
            return
        here = (key, made)
        if section.expand is None:
            yield f"{key}#*", made.times(0, made.most * _MOST_OF_FUNCTION), here
            return
        text = section.expand.text or section.expand.list or ""
        read = columns_read([text])
        if read is not None and read.isdisjoint(made.unseen):
            try:
                for child_key, row in self._pipeline.children(plan.name, key, made.row):
                    yield child_key, made.with_row(row, {}), here
            except Exception:  # noqa: BLE001 – as in a run, nothing is made of a row that cannot be expanded
                return
            return
        tokens = _most_tokens(made.unseen if read is None else _of(made.unseen, dict.fromkeys(read)))
        most = section.expand.at_most
        if section.expand.text is not None:
            size = section.expand.max_tokens or 1
            step = max(1, size - section.expand.overlap)
            most = most if tokens is None else min(most, -(-max(1, tokens) // step))
            row = {**made.row, "part": "", "part_number": 1, "part_count": most}
            child = made.with_row(row, {"part": size}).times(made.least, made.most * most)
        else:
            most = most if tokens is None else min(most, max(1, tokens))
            row = {**made.row, "item": "", "item_number": 1, "item_count": most}
            size_of_item = None if tokens is None else -(-tokens // most)
            child = made.with_row(row, {"item": size_of_item}).times(0, made.most * most)
        yield f"{key}#*", child, here

    # ── groups with stand-ins ─────────────────────────────────────────────────────────────────────────────

    def _ask_unseen(self, group: _Group) -> None:
        plan = self._pipeline.plans[group.stage]
        if plan.section.missing == "fail" and any(each.settled.answer is None for each in group.members):
            self._fail(group)
            return
        least, most = self._sizes(plan, group.members, is_merge=group.level > 0)
        if most:
            tree = tree_of(least, most, limit=plan.section.max_input_tokens, answer_tokens=_answer_tokens(plan))
            self._ask_tree(group, tree)

    def _ask_tree(self, group: _Group, tree: Tree) -> None:
        merges = {MERGES: True} if group.level else {}
        row = {**group.row, ROWS: [], MISSING: 0, **merges}
        unseen = {**group.unseen, ROWS: 0}
        common: dict[str, Any] = {"stage": group.stage, "row": row, "where": group.where, "unseen": unseen}
        if tree.most_parts:
            self._waiting[group.stage].append(
                Foreseen(
                    **common,
                    key=f"{group.key}/*",
                    tokens=Range(*tree.part_tokens),
                    least=tree.least_parts,
                    most=tree.most_parts,
                    is_part=True,
                )
            )
        self._waiting[group.stage].append(
            Foreseen(**common, key=group.key, tokens=Range(*tree.last_tokens), least=tree.least, most=1)
        )

    def _sizes(
        self, plan: StagePlan, members: Sequence[_Member], *, is_merge: bool = False
    ) -> tuple[list[int], list[int | None]]:
        """The tokens of the rows of a group: of those that it has at least, and of all that it may have."""
        least: list[int] = []
        most: list[int | None] = []
        for member in members:
            if member.settled.answer is None:
                continue
            row = self._pipeline.with_answer(plan.name if is_merge else plan.section.from_, member.settled)
            kept = member.least if is_merge else self._least_kept(plan, row, member.unseen, member.least)
            if kept is None:
                continue
            read = _kept(row, frozenset({plan.name}) if is_merge else plan.members)
            tokens = self._counter.count(orjson.dumps(read).decode())
            least += [tokens] * kept
            most += [_sum(tokens, self.unseen_tokens(plan, _of(member.unseen, read)))] * member.most
        return least, most

    def _ask_loose(self, plan: StagePlan, members: Sequence[_Member], *, may_join: bool) -> None:
        """Rows whose group depends on answers: they may be one group, or each a group of its own."""
        least, most = self._sizes(plan, members)
        if not most:
            return
        total: int | None = 0
        for each in most:
            total = _sum(total, each)
        row = self._pipeline.with_answer(plan.section.from_, members[0].settled)
        kept = _kept(row, None if plan.columns is None else plan.columns.union(plan.section.group_columns or ()))
        limit = plan.section.max_input_tokens
        foreseen = Foreseen(
            stage=plan.name,
            key="*",
            row={**kept, ROWS: [], MISSING: 0},
            where=members[0].settled.key,
            unseen={**_of(members[0].unseen, kept), ROWS: 0},
            tokens=Range(sum(least) if limit is None else min(limit, sum(least)), total and -(-total // len(most))),
            least=1 if least and not may_join else 0,
            most=len(most),
        )
        self._waiting[plan.name].append(foreseen)
        if limit is not None and len(most) > 1:
            merges = Foreseen(
                stage=plan.name,
                key="*/*",
                row=foreseen.row,
                where=foreseen.where,
                unseen=foreseen.unseen,
                tokens=Range(0, limit),
                least=0,
                most=len(most),
                is_part=True,
            )
            self._waiting[plan.name].append(merges)

    def unseen_tokens(self, plan: StagePlan, unseen: Unseen) -> int | None:
        """The most tokens that answers which are not known add to a request of a stage."""
        texts = list(texts_of([plan.section.request, plan.section.merge]))
        return _most_tokens({name: _times(bound, _mentions(texts, name)) for name, bound in unseen.items()})


@fast_dataclass(kw_only=False)
class _Unseen:
    """A row with stand-ins, and how many there may be of it."""

    row: Row
    unseen: Unseen
    where: str
    least: int
    most: int

    def times(self, least: int, most: int) -> _Unseen:
        return _Unseen(self.row, self.unseen, self.where, least, most)

    def with_row(self, row: Row, unseen: Unseen) -> _Unseen:
        return _Unseen(row, {**self.unseen, **unseen}, self.where, self.least, self.most)


def _answer_tokens(plan: StagePlan) -> int | None:
    most = (plan.section.request or {}).get("max_output_tokens")
    return most if isinstance(most, int) else None


def _kept(row: Row, columns: Columns) -> dict[str, Any]:
    return {name: value for name, value in row.items() if columns is None or name in columns}


def _of(unseen: Unseen, row: Iterable[str]) -> dict[str, int | None]:
    return {name: unseen[name] for name in row if name in unseen}


def _mentions(texts: Sequence[str], name: str) -> int:
    """How often a template names a column: each place may repeat its value."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    return max(1, sum(len(word.findall(braces)) for text in texts for braces in _IN_BRACES.findall(text)))


def _most_tokens(unseen: Unseen) -> int | None:
    total: int | None = 0
    for bound in unseen.values():
        total = _sum(total, bound)
    return total


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _times(bound: int | None, number: int) -> int | None:
    return None if bound is None else bound * number
