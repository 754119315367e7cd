"""The shape that a job's answers must have: a JSON Schema given inline, in a file, or by a Pydantic class.

Whichever way it is given, it stands in the request in the end, as it is sent, so that it is part of all that makes a
request: its fingerprint, and the job as it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from orchestrator.job.documents.validation_problems import ValidationProblem
from orchestrator.job.requests.imports import CannotImport, imported
from orchestrator.job.requests.strict_schema import CannotBeStrict, not_strict, strict_schema
from orchestrator.policy.errors.answer_schema import AnswerSchema, BadSchema, asked_schema

__all__ = ["NoAnswerFormat", "format_warnings", "schema_problems", "with_answer_format"]

_SCHEMA = ("request", "text", "format", "schema")
_MODEL = ("output_model",)
_NAME_LIMIT = 64
# The places of a schema that one warning names.
_REPORTED = 4


class NoAnswerFormat(ValueError):
    """The file or the class that should give the shape does not."""

    def __init__(self, problem: ValidationProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def with_answer_format(
    job: Mapping[str, Any], folder: Path, *, allowed: Collection[str] | None = None
) -> Mapping[str, Any]:
    """The job as written, with what gives the shape put in place of its name; raises ``NoAnswerFormat``.

    ``allowed`` are the modules from elsewhere that a job file may name; None allows all.
    Parts that are not of the right type are left for others to refuse.
    """
    request, model = job.get("request", {}), job.get("output_model")
    if not isinstance(request, dict):
        return job
    text = request.get("text") or {}
    if not isinstance(text, dict):
        if model is not None:
            raise NoAnswerFormat(ValidationProblem(_MODEL, "cannot stand beside a request.text that is one template"))
        return job
    shape = text.get("format")
    if isinstance(model, str):
        made = _format_of_class(model, folder, allowed)
        if shape not in (None, made):
            raise NoAnswerFormat(
                ValidationProblem(_MODEL, "cannot stand beside request.text.format", "keep one of the two")
            )
        shape = made
    elif isinstance(shape, dict) and shape.get("type") == "json_schema" and isinstance(shape.get("schema"), str):
        shape = {**shape, "schema": _schema_in_file(folder / shape["schema"])}
    else:
        return job
    return {**job, "request": {**request, "text": {**text, "format": shape}}}


def schema_problems(request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    """Why answers could not be checked against the schema that the request asks for."""
    schema = asked_schema(request)
    if schema is None:
        return
    try:
        AnswerSchema(schema)
    except BadSchema as error:
        place = ".".join(map(str, error.path))
        yield ValidationProblem(_SCHEMA[1:], f"is no JSON Schema{' at ' + place if place else ''}: {error.reason}")


def format_warnings(request: Mapping[str, Any], *, on_invalid: object) -> Iterator[str]:
    """What of the shape of answers looks like a slip; nothing of it is refused."""
    schema = asked_schema(request)
    if schema is None:
        if on_invalid != "fail":
            yield "on_invalid does nothing: neither output_model nor request.text.format asks for JSON"
        return
    if request["text"]["format"].get("strict") and (found := [*not_strict(schema)]):
        more = f", and {len(found) - _REPORTED} more" if len(found) > _REPORTED else ""
        reported = "; ".join(found[:_REPORTED]) + more
        yield f"request.text.format is strict, but its schema is not, and may be refused: {reported}"


def _schema_in_file(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        message = f'the file "{path}" cannot be read: {error.strerror}'
        raise NoAnswerFormat(ValidationProblem(_SCHEMA, message, "paths are relative to the job file")) from None
    except orjson.JSONDecodeError as error:
        message = f'the file "{path}" is not JSON: {error.msg} at line {error.lineno}'
        raise NoAnswerFormat(ValidationProblem(_SCHEMA, message)) from None


def _format_of_class(reference: str, folder: Path, allowed: Collection[str] | None) -> dict[str, Any]:
    try:
        model = imported(reference, folder, allowed=allowed)
        if not isinstance(model, type) or not issubclass(model, BaseModel):
            raise CannotImport("must name a Pydantic class", "a class that inherits from pydantic.BaseModel")
        schema = strict_schema(model)
    except (CannotImport, CannotBeStrict) as error:
        raise NoAnswerFormat(ValidationProblem(_MODEL, error.reason, error.hint)) from error
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", model.__name__)[:_NAME_LIMIT]
    return {"type": "json_schema", "name": name, "schema": schema, "strict": True}
