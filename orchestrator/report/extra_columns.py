"""The columns of CSV and Parquet that only some exports have: stages, fields of typed answers, columns of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.report.answer_columns import AnswerColumn, answer_columns, answer_of, in_kind, value_in
from orchestrator.report.columns import STAGE_COLUMNS, Kind, stage_values
from orchestrator.report.row_columns import RowColumn, row_of
from orchestrator.stores.reads import ResultRecord

__all__ = ["ExtraColumns"]


@fast_dataclass(kw_only=False)
class ExtraColumns:
    """The further columns of one export."""

    answers: tuple[AnswerColumn, ...] = ()
    rows: tuple[RowColumn, ...] = ()
    staged: bool = False

    @classmethod
    def of(cls, schema: Mapping[str, Any] | None, rows: tuple[RowColumn, ...] = (), *, staged: bool = False) -> Self:
        """The fields that answers to a schema have, the given columns of their rows, and the stage of ``staged``."""
        return cls(answer_columns(schema or {}), rows, staged)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each column, by its name in the header."""
        stages = STAGE_COLUMNS if self.staged else {}
        answers = {column.name: column.kind for column in self.answers}
        return stages | answers | {column.name: column.kind for column in self.rows}

    def values(self, record: ResultRecord) -> Iterator[Any]:
        """The values of one record, in the order of the columns."""
        if self.staged:
            yield from stage_values(record)
        if self.answers:
            answer = answer_of(record)
            yield from (value_in(answer, column) for column in self.answers)
        if self.rows:
            row = row_of(record)
            yield from (in_kind(row.get(each.column), each.kind) for each in self.rows)

    def as_texts(self, names: Collection[str]) -> Self:
        """The same with some of the columns as text, which holds every value."""
        return replace(
            self,
            answers=tuple(replace(each, kind=Kind.TEXT) if each.name in names else each for each in self.answers),
            rows=tuple(replace(each, kind=Kind.TEXT) if each.name in names else each for each in self.rows),
        )
