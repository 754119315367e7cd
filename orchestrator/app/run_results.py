"""The results of a run as one object: records, typed answers, data frames, and a table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.core.errors import UsageError
from orchestrator.core.money import format_usd
from orchestrator.core.states import State
from orchestrator.report.columns import Kind, columns_of, flat_row, stage_values
from orchestrator.stores.reads import ResultRecord, Summary

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Results"]

_Model = TypeVar("_Model", bound="BaseModel")
_SHOWN_ROWS = 20
_SHOWN_COLUMNS = ("key", "state", "output_text", "error_code", "cost_usd")


@dataclass(frozen=True, slots=True, repr=False)
class Results(Sequence[ResultRecord]):
    """The ended requests of a run in input order, and its counts."""

    summary: Summary
    records: tuple[ResultRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        return self.records[index]

    def __iter__(self) -> Iterator[ResultRecord]:
        return iter(self.records)

    @property
    def _columns(self) -> dict[str, Kind]:
        return columns_of(staged=bool(self.summary.stages))

    def texts(self) -> dict[str, str]:
        """The answers by key; rows without one are left out."""
        return {each.key: each.output_text for each in self._answered() if each.output_text is not None}

    def typed(self, model: type[_Model]) -> dict[str, _Model]:
        """The answers by key as objects of a Pydantic class, such as that of ``output_model``."""
        return {key: model.model_validate_json(text) for key, text in self.texts().items()}

    def rows(self) -> list[dict[str, Any]]:
        """The columns of an export, a mapping for each row; money in dollars, times in Unix seconds."""
        return [
            {
                name: _value(value, kind)
                for (name, kind), value in zip(
                    self._columns.items(),
                    (*flat_row(each), *(stage_values(each) if self.summary.stages else ())),
                    strict=True,
                )
            }
            for each in self.records
        ]

    def to_pandas(self) -> Any:
        """The rows as a data frame of pandas, which must be installed; raises ``UsageError``."""
        return _package("pandas").DataFrame(self.rows(), columns=list(self._columns))

    def to_polars(self) -> Any:
        """The rows as a data frame of polars, which must be installed; raises ``UsageError``."""
        return _package("polars").DataFrame(self.rows(), schema=list(self._columns), infer_schema_length=None)

    def _answered(self) -> Iterator[ResultRecord]:
        return (each for each in self.records if each.state is State.SUCCEEDED)

    def __repr__(self) -> str:
        return f"Results({len(self):,} rows of {self.summary!r})"

    def _repr_html_(self) -> str:
        rows = [*map(_cells, self.rows()[:_SHOWN_ROWS])]
        more = f"<p>… and {len(self) - _SHOWN_ROWS:,} more rows</p>" if len(self) > _SHOWN_ROWS else ""
        head = "".join(f"<th>{name}</th>" for name in _SHOWN_COLUMNS)
        return f"{self.summary._repr_html_()}<table><tr>{head}</tr>{''.join(rows)}</table>{more}"


def _cells(row: Mapping[str, Any]) -> str:
    values = ("" if row[name] is None else str(row[name]) for name in _SHOWN_COLUMNS)
    return f"<tr>{''.join(f'<td>{html.escape(value[:200])}</td>' for value in values)}</tr>"


def _value(value: Any, kind: Kind) -> Any:
    return float(Decimal(format_usd(value))) if kind is Kind.MONEY and value is not None else value


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(f"{name} is not installed", hint=f"pip install {name}") from None
