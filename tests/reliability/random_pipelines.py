"""Pipelines of random stages, each with the text that it asks as plain Python beside its template."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.core.states import State

from .naive_pipeline import Stored, asked

__all__ = ["RandomPipeline", "RandomStage"]

_NAMES = ("one", "two", "three", "four")


@dataclass(frozen=True, kw_only=True)
class RandomStage:
    """One stage; ``columns`` can be read by what it asks, ``text_columns`` of them are answers."""

    name: str
    source: str
    columns: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    # A row is kept unless the length of this column is a multiple of three.
    where: str | None = None
    # The column whose first items or words become rows.
    expands: str | None = None
    group_by: str | list[str] | None = None
    missing: str = "fail"
    # Whether a stage between this one and the input makes several rows of one.
    has_parent: bool = False

    def section(self) -> dict[str, Any]:
        """The stage as a user writes it."""
        read = "".join(f" {{{{ {column} }}}}" for column in self.columns)
        section: dict[str, Any] = {"from": self.source}
        if self.where is not None:
            section["where"] = f"{{{{ {self.where} | length % 3 > 0 }}}}"
        if self.expands is not None:
            is_list = self.expands == "parts"
            items = self.expands if is_list else f"{self.expands}.split()[:2]"
            section["expand"] = {"list": f"{{{{ {items} }}}}"}
        if self.group_by is not None:
            section |= {"group_by": self.group_by, "missing": self.missing}
            read += f"{{% for row in rows %}}|{{{{ row.{self.source} }}}}{{% endfor %}}"
        return section | {"request": asked(self.name + read)}

    def text(self, row: Mapping[str, Any], rows: list[str] | None = None) -> str:
        """What it asks of a row, or of a group with these answers."""
        return "".join(
            [self.name, *(f" {row[column]}" for column in self.columns), *(f"|{each}" for each in rows or ())]
        )


@dataclass(frozen=True)
class _Row:
    key: str
    columns: dict[str, Any]
    # The stage that has failed on its way; None if it is there.
    lost: str | None = None
    # Whether it was to become several rows after it was lost.
    is_whole: bool = True


@dataclass
class RandomPipeline:
    """A random pipeline, its rows, and what it must ask."""

    rng: random.Random
    rows: int
    stages: dict[str, RandomStage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _NAMES[: self.rng.randint(2, len(_NAMES))]:
            self.stages[name] = self._stage(name)
        self.input: list[dict[str, Any]] = [
            {
                "id": f"r{number}",
                "title": f"title {number}",
                "section": self.rng.choice("ab"),
                "parts": [f"part {number}-{part}" for part in range(self.rng.randint(0, 3))],
            }
            for number in range(self.rows)
        ]

    def sections(self) -> dict[str, Any]:
        """The stages of the job."""
        return {name: stage.section() for name, stage in self.stages.items()}

    def _stage(self, name: str) -> RandomStage:
        rng, before = self.rng, list(self.stages)
        source = rng.choice([*before[-2:], before[-1]]) if before else "input"
        stage = self.stages.get(source)
        if stage is None:
            expands = "parts" if rng.random() < 0.6 else None
            columns = ("title", "section", *(["item"] if expands is not None else []))
            return RandomStage(
                name=name,
                source=source,
                columns=columns,
                where=rng.choice([None, "parts"]),
                expands=expands,
                has_parent=expands is not None,
            )
        answers = (*stage.text_columns, source)
        after = replace(
            stage, name=name, source=source, text_columns=answers, where=None, expands=None, group_by=None
        )
        grouped = replace(
            after, missing=rng.choice(["fail", "any"]), where=rng.choice([None, source]), text_columns=()
        )
        kinds = [
            replace(after, columns=(*stage.columns, source), where=rng.choice([None, source])),
            replace(grouped, group_by=[], columns=(), has_parent=False),
        ]
        if "section" in stage.columns:
            kinds.append(replace(grouped, group_by="section", columns=("section",), has_parent=False))
        if stage.has_parent and "item" in stage.columns:
            columns = tuple(each for each in stage.columns if each in ("title", "section"))
            kinds.append(replace(grouped, group_by="parent", columns=columns, has_parent=False))
        if "item" not in stage.columns:
            kinds.append(replace(after, columns=(*stage.columns, "item"), expands=source, has_parent=True))
        return rng.choice(kinds)

    # ── the naive evaluation ──────────────────────────────────────────────────────────────────────────────

    def wanted(self, stored: Stored) -> dict[str, Counter[str]]:
        """What must have been asked at each stage, given the answers, by loops over the rows."""
        there = {"input": [_Row(row["id"], row) for row in self.input]}
        wanted: dict[str, Counter[str]] = defaultdict(Counter)
        for name, stage in self.stages.items():
            made = self._grouped(stage, there) if stage.group_by is not None else self._made(stage, there)
            wanted[name] = Counter(f"{row.key}: {text}" for row, text in made if row.lost is None)
            there[name] = [self._settled(name, row, stored) for row, _ in made]
        return wanted

    @staticmethod
    def _settled(name: str, row: _Row, stored: Stored) -> _Row:
        if row.lost is not None:
            return row
        answer = stored.answers.get((name, row.key))
        if answer is None:
            return replace(row, lost=name)
        return replace(row, columns={**row.columns, name: answer})

    @staticmethod
    def _made(stage: RandomStage, there: Mapping[str, list[_Row]]) -> list[tuple[_Row, str]]:
        made: list[tuple[_Row, str]] = []
        for row in there[stage.source]:
            if row.lost is not None:
                made.append((replace(row, is_whole=row.is_whole and stage.expands is None), ""))
                continue
            if stage.where is not None and len(row.columns[stage.where]) % 3 == 0:
                continue
            if stage.expands is None:
                made.append((row, stage.text(row.columns)))
                continue
            value = row.columns[stage.expands]
            for number, item in enumerate(value if stage.expands == "parts" else value.split()[:2], start=1):
                child = _Row(f"{row.key}#{number}", {**row.columns, "item": item})
                made.append((child, stage.text(child.columns)))
        return made

    @staticmethod
    def _grouped(stage: RandomStage, there: Mapping[str, list[_Row]]) -> list[tuple[_Row, str]]:
        groups: dict[str, list[_Row]] = defaultdict(list)
        for row in there[stage.source]:
            if stage.group_by == "parent":
                if row.is_whole or row.lost is None:
                    groups[row.key.rpartition("#")[0]].append(row)
            else:
                groups[row.columns["section"] if stage.group_by else "[]"].append(row)
        made: list[tuple[_Row, str]] = []
        for key, rows in groups.items():
            here = [row for row in rows if row.lost is None]
            kept = [row for row in here if stage.where is None or len(row.columns[stage.where]) % 3]
            columns = {name: rows[0].columns[name] for name in stage.columns}
            group, lost = _Row(key, columns), len(rows) - len(here)
            if lost and (stage.missing == "fail" or not kept):
                made.append((replace(group, lost=stage.name), ""))
            elif kept:
                made.append((group, stage.text(columns, [row.columns[stage.source] for row in kept])))
        return made

    def asked(self, stored: Stored) -> dict[str, Counter[str]]:
        """What the rows of a database ask at each stage; failed groups hold no rows."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for (name, key), row in stored.rows.items():
            stage = self.stages[name]
            if stage.group_by is not None and "rows" not in row:
                assert stored.states[name, key] is State.FAILED, (name, key)
                continue
            rows = None if stage.group_by is None else [each[stage.source] for each in row["rows"]]
            found[name][f"{key}: {stage.text(row, rows)}"] += 1
        return found
