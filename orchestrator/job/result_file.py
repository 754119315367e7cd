"""The job's field ``output``: where the results go, and which columns of their rows go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from orchestrator.core.section import Section

__all__ = [
    "Included",
    "Output",
    "OutputSection",
    "included_columns",
    "included_in_spec",
    "kept_columns",
    "result_path",
    "without_path",
]

_SUFFIXES = (".jsonl", ".csv", ".parquet")

# What ``include`` may hold: names of columns, all columns, or no column.
Included: TypeAlias = Literal["all", "none"] | tuple[str, ...]


def _can_be_exported(path: str) -> str:
    if not path.endswith(_SUFFIXES):
        raise ValueError(f"must end in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}")
    return path


def _no_name_twice(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _kind_of_included(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return "columns"
    return "word" if value in ("all", "none") else None


ResultPath: TypeAlias = Annotated[str, AfterValidator(_can_be_exported)]


class OutputSection(Section):
    """Where the results go, and with which columns of their rows."""

    path: ResultPath | None = None
    """The file, relative to the job file."""
    include: Annotated[
        Annotated[Literal["all", "none"], Tag("word")]
        | Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_no_name_twice), Tag("columns")],
        Discriminator(
            _kind_of_included,
            custom_error_type="mistake",
            custom_error_message="{reason}",
            custom_error_context={"reason": "must be a list of columns, or all", "hint": "such as [title, author]"},
        ),
    ] = "none"
    """Columns of the row to write beside its answer: a list of names, or `all`. They are kept in the database even if
    no template reads them, so name them before the run."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.path is None and self.include == "none":
            raise ValueError("must hold path, include or both")
        return self


def _no_file_twice(files: dict[str, str]) -> dict[str, str]:
    if len({*files.values()}) < len(files):
        raise ValueError("names one file for two stages")
    return files


def _names_stages(output: Mapping[Any, Any]) -> bool:
    """Whether it has a file for each stage, rather than a misspelt field."""
    fields, files = OutputSection.model_fields.keys(), output.values()
    if output.keys() <= fields or not all(isinstance(each, str) for each in files):
        return False
    return output.keys().isdisjoint(fields) or all(each.endswith(_SUFFIXES) for each in files)


def _kind_of_output(value: Any) -> str | None:
    if isinstance(value, OutputSection):
        return "section"
    if isinstance(value, dict):
        return "stages" if _names_stages(value) else "section"
    if value is None:
        return "nowhere"
    return "path" if isinstance(value, str) else None


Output: TypeAlias = Annotated[
    Annotated[ResultPath, Tag("path")]
    | Annotated[OutputSection, Tag("section")]
    | Annotated[dict[str, ResultPath], Field(min_length=1), AfterValidator(_no_file_twice), Tag("stages")]
    | Annotated[None, Tag("nowhere")],
    Discriminator(
        _kind_of_output,
        custom_error_type="mistake",
        custom_error_message="{reason}",
        custom_error_context={
            "reason": "must be the path of a file, {path, include}, or a file for each stage",
            "hint": "such as results.jsonl",
        },
    ),
]


def result_path(output: str | OutputSection | None) -> str | None:
    """The path as the job has it; None if it names none."""
    return output.path if isinstance(output, OutputSection) else output


def included_columns(output: Output) -> Included:
    """Which columns of the rows are kept for their results."""
    return output.include if isinstance(output, OutputSection) else "none"


def included_in_spec(spec: Mapping[str, Any]) -> Included:
    """The same of a job as a run keeps it."""
    output = spec.get("output")
    is_section = isinstance(output, dict) and _kind_of_output(output) == "section"
    return included_columns(OutputSection.model_validate(output) if is_section else None)


def without_path(output: Output) -> OutputSection | None:
    """The same without a file; None if nothing is left."""
    included = included_columns(output)
    return None if included == "none" else OutputSection(include=included)


def kept_columns(read: frozenset[str] | None, included: Included) -> frozenset[str] | None:
    """The columns of a row that are stored, of which ``read`` are read by templates; None: all."""
    if included == "all" or read is None:
        return None
    return read if included == "none" else read | frozenset(included)
