"""What is wrong with a file, as values: found by pure checks and reported together, each with field and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["FieldPath", "ValidationProblem", "did_you_mean", "listed", "problems_of", "refuse"]

FieldPath: TypeAlias = tuple[str | int, ...]

# The names that an error lists before it says "…"; a row of 300 columns would bury the message.
_LISTED = 12
_LISTED_CHARACTERS = 40


@fast_dataclass(kw_only=False)
class ValidationProblem:
    """One thing that is wrong: the field, what is allowed there, and what to do.

    ``line`` is given only where it is not the field's own line (the second of two equal keys).
    """

    field: FieldPath
    message: str
    hint: str | None = None
    line: int | None = None


def did_you_mean(wrong: str, allowed: Iterable[str]) -> str | None:
    """A question with the nearest allowed name, or None if none is near."""
    near = get_close_matches(wrong.lower(), list(allowed), n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"?' if near else None


def listed(names: Iterable[str]) -> str:
    """Names in a row for people, shortened if they are many or long."""
    every = [name if len(name) <= _LISTED_CHARACTERS else f"{name[:_LISTED_CHARACTERS]}…" for name in names]
    return ", ".join(every[:_LISTED]) + (", …" if len(every) > _LISTED else "")


def refuse(title: str, problems: Iterable[ValidationProblem]) -> None:
    """Raise all mistakes from within a Pydantic validator, each at its own place; do nothing if there are none."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("mistake", "{reason}", {"reason": problem.message, "hint": problem.hint}),
            loc=problem.field,
            input=None,
        )
        for problem in problems
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


def problems_of(error: ValidationError, model: type[BaseModel], data: Any) -> Iterator[ValidationProblem]:
    """The errors of validating ``data`` in our own words; no value of the file is repeated."""
    for detail in error.errors(include_url=False, include_input=False):
        message, hint = _describe(detail, model)
        path = _path_in(data, detail)
        if detail["type"] in {"dict_type", "model_type", "model_attributes_type"} and path:
            hint = _as_mapping(path, _fields_at(model, detail["loc"]), _value_at(data, path)) or hint
        yield ValidationProblem(path, message, hint)


def _as_mapping(path: FieldPath, allowed: list[str], value: Any) -> str | None:
    """How a value is written that stands where a mapping belongs; only a number is repeated."""
    if not allowed or not isinstance(path[-1], str):
        return None
    inner = value if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else "…"
    return f"write it as {path[-1]}: {{{allowed[0]}: {inner}}}"


def _value_at(data: Any, path: FieldPath) -> Any:
    for step in path:
        data = data[step]
    return data


def _path_in(data: Any, detail: ErrorDetails) -> FieldPath:
    """The error's place as the file has it: without the steps by which Pydantic names the member of a union."""
    loc = detail["loc"]
    names_absent_field = detail["type"] in {"missing", "mistake"}
    path: list[str | int] = []
    for depth, step in enumerate(loc):
        if isinstance(data, dict) and (step in data or (names_absent_field and depth == len(loc) - 1)):
            data = data.get(step)
        elif isinstance(data, (list, tuple)) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            continue
        path.append(step)
    return tuple(path)


# Pydantic's kinds of error, in the words of this project, with a hint; the braces are filled from the error.
_WORDS: dict[str, tuple[str, str | None]] = {
    "value_error": ("{error}", None),
    "missing": ("is required", None),
    "string_type": ("must be text", "put it in quotes"),
    "string_too_short": ("must not be empty", None),
    "too_short": ("must not be empty", None),
    "string_too_long": ("may have at most {max_length} characters", None),
    "dict_type": ("must be a mapping (name: value)", None),
    "model_type": ("must be a mapping (name: value)", None),
    "list_type": ("must be a list", None),
    "tuple_type": ("must be a list", None),
    "int_type": ("must be a whole number", None),
    "int_parsing": ("must be a whole number", None),
    "int_from_float": ("must be a whole number", None),
    "float_type": ("must be a number", None),
    "float_parsing": ("must be a number", None),
    "bool_type": ("must be true or false", None),
    "bool_parsing": ("must be true or false", None),
    "greater_than": ("must be more than {gt}", None),
    "greater_than_equal": ("must be at least {ge}", None),
    "less_than": ("must be less than {lt}", None),
    "less_than_equal": ("must be at most {le}", None),
    "literal_error": ("must be {expected}", None),
    "enum": ("must be {expected}", None),
}


def _describe(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str | None]:
    context: dict[str, Any] = detail.get("ctx", {})
    if detail["type"] == "extra_forbidden":
        allowed = _fields_at(model, detail["loc"][:-1])
        return "there is no such field", did_you_mean(
            str(detail["loc"][-1]), allowed
        ) or f"allowed: {listed(allowed)}"
    if detail["type"] == "mistake":
        return context["reason"], context["hint"]
    words, hint = _WORDS.get(detail["type"], (detail["msg"].replace("{", "{{").replace("}", "}}"), None))
    return words.format(**context), hint


def _fields_at(model: type[BaseModel], loc: FieldPath) -> list[str]:
    """The names allowed in the mapping at ``loc``; a step that names no field is a list's index or a union's tag."""
    models = [model]
    for step in loc:
        inner = [
            found
            for candidate in models
            for name, field in candidate.model_fields.items()
            if step in (name, field.alias)
            for found in _models_in(field.annotation)
        ]
        models = inner or models
    return [field.alias or name for candidate in models for name, field in candidate.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
