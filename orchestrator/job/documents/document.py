"""Reads the YAML files that people write (job, config, prices) into Pydantic models, with errors that say where.

An error reads ``file:line: field: what is allowed``; all errors of one file are reported together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.core.errors import ConfigError, OrchestratorError, SpecError, UsageError
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem, did_you_mean, problems_of
from orchestrator.job.documents.yaml import NotYaml, ParsedYaml, parse_scalar, parse_yaml

__all__ = ["Document", "Kind", "apply_overrides", "load_document"]

Kind: TypeAlias = Literal["job", "config", "prices"]
# A file that a person writes; the parser takes seconds for each megabyte.
_MOST_BYTES = 2**20
_MOST_PROBLEMS = 20
_LONGEST_NAME = 60

ModelT = TypeVar("ModelT", bound=BaseModel)


class Document:
    """A YAML file as plain data that still knows the line of each field."""

    def __init__(self, kind: Kind, path: Path | None, parsed: ParsedYaml) -> None:
        self.kind = kind
        self.path = path
        self.data: dict[str, Any] = parsed.data
        self._lines = parsed.lines
        self._problems = parsed.problems
        # Where fields come from that were set from outside the file.
        self._set_from: dict[FieldPath, str] = {}

    @classmethod
    def read(cls, path: Path, *, kind: Kind) -> Document:
        """Read a file; raises ``SpecError`` (job) or ``ConfigError`` if it is not a mapping in YAML."""
        text = _text_of(path, kind)
        try:
            with _understood(kind, path):
                parsed = parse_yaml(text)
        except NotYaml as error:
            raise _error(kind, error.message, where=f"{path}:{error.line}", hint=error.hint) from None
        if not isinstance(parsed.data, dict):
            what = "is empty" if parsed.data is None else "must be a mapping (name: value) at its top"
            raise _error(kind, f"the {kind} file {what}", where=f"{path}:1")
        return cls(kind, path, parsed)

    @classmethod
    def empty(cls, kind: Kind) -> Document:
        """No file at all: every field is at its default, unless set from outside."""
        return cls(kind, None, ParsedYaml({}, {}, []))

    def set(self, field: str, value: Any, *, source: str) -> None:
        """Set a field, named by a dotted path, from outside the file; errors about it will name ``source``."""
        *outer, last = field.split(".")
        target: Any = self.data
        path: FieldPath = ()
        for name in outer:
            step = _step(target, name)
            path = (*path, step)
            if isinstance(target, dict) and target.get(name) is None:
                target[name] = {}
            target = (
                target[step] if isinstance(target, dict) or (isinstance(step, int) and step < len(target)) else None
            )
            if not isinstance(target, (dict, list)):
                raise UsageError(f"{'.'.join(map(str, path))} holds no fields that could be set", where=source)
        step = _step(target, last)
        if isinstance(target, list) and not (isinstance(step, int) and step < len(target)):
            raise UsageError(f"{field} is not in {self.path}", where=source)
        target[step] = value
        self._set_from[(*path, step)] = source

    def where(self, field: FieldPath) -> str | None:
        """Where a person finds the field: ``file:line`` of it or of what holds it, or what set it from outside."""
        for length in range(len(field), 0, -1):
            if (source := self._set_from.get(field[:length])) is not None:
                return source
            if (line := self._lines.get(field[:length])) is not None:
                return f"{self.path}:{line}"
        return f"{self.path}:1" if self.path else None

    def validate(self, model: type[ModelT], **context: Any) -> ModelT:
        """The file as a model; raises one error with everything that is wrong, in the order of the lines.

        ``context`` is what the validators of the model need to know beside the file.
        """
        problems = list(self._problems)
        try:
            with _understood(self.kind, self.path, but=(ValidationError,)):
                valid = model.model_validate(self.data, context={"source": self.path, "where": self.where, **context})
        except ValidationError as error:
            # What could not be read at all is not also of a wrong type.
            unread = {problem.field for problem in problems}
            problems += [each for each in problems_of(error, model, self.data) if each.field not in unread]
        else:
            if not problems:
                return valid
        raise self.error(problems)

    def error(self, problems: Iterable[ValidationProblem]) -> OrchestratorError:
        """One exception for all mistakes of the file."""
        placed = sorted(((self._place(problem), problem) for problem in problems), key=_by_line)
        if len(placed) == 1:
            [(where, problem)] = placed
            return _error(self.kind, self._sentence(problem), where=where, hint=problem.hint)
        lines = [f"{len(placed)} mistakes in the {self.kind} file"]
        for where, problem in placed[:_MOST_PROBLEMS]:
            lines.append(f"  {where}: {self._sentence(problem)}" + (f" ({problem.hint})" if problem.hint else ""))
        if len(placed) > _MOST_PROBLEMS:
            lines.append(f"  … and {len(placed) - _MOST_PROBLEMS} more")
        return _error(self.kind, "\n".join(lines), where=str(self.path))

    def _place(self, problem: ValidationProblem) -> str:
        if problem.line is not None:
            return f"{self.path}:{problem.line}"
        return self.where(problem.field) or f"the {self.kind}"

    def _sentence(self, problem: ValidationProblem) -> str:
        if not problem.field or problem.field in self._set_from:
            # What set it from outside names the field already.
            return problem.message
        return f"{'.'.join(map(_shortened, problem.field))}: {problem.message}"


def load_document(
    path: Path, model: type[ModelT], *, kind: Kind, overrides: Mapping[str, str] | None = None
) -> ModelT:
    """Read, override and validate a file.

    ``overrides`` are ``--set`` paths with values as YAML scalars: ``{"request.model": "gpt-6.1-sol"}``.
    """
    document = Document.read(path, kind=kind)
    apply_overrides(document, overrides or {})
    return document.validate(model)


def apply_overrides(document: Document, overrides: Mapping[str, str]) -> None:
    """Set what ``--set`` asks for."""
    for field, text in overrides.items():
        try:
            value = parse_scalar(text)
        except ValueError as error:
            raise UsageError(f"the value {error}", where=f"--set {field}") from None
        document.set(field, value, source=f"--set {field}")


@contextmanager
def _understood(kind: Kind, path: Path | None, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises an error that names the file instead of any other: a file may hold what no check foresees."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (OrchestratorError, NotYaml, *but)):
            raise
        words = error.strerror if isinstance(error, OSError) else None
        reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
        raise _error(
            kind,
            f"the {kind} file holds something that cannot be understood ({reason})",
            where=f"{path}:1" if path else f"the {kind}",
            hint="look for very long, very large or deeply nested values",
        ) from error


def _text_of(path: Path, kind: Kind) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            most = f"more than {_MOST_BYTES / 2**20:.0f} MB, too long for a {kind} file"
            raise _error(kind, most, where=str(path), hint="rows belong into the file that input.path names")
        return content.decode()
    except FileNotFoundError:
        raise _error(kind, f"there is no such {kind} file", where=str(path), hint=_neighbour(path)) from None
    except OSError as error:
        raise _error(kind, f"the {kind} file cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _error(kind, "the file is not UTF-8 text", where=f"{path}:{line}", hint="save it as UTF-8") from None


def _neighbour(path: Path) -> str | None:
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.glob("*.y*ml")])
    except OSError:
        return None


def _error(kind: Kind, message: str, *, where: str, hint: str | None = None) -> OrchestratorError:
    raised = SpecError if kind == "job" else ConfigError
    return raised(message, where=where, hint=hint)


def _shortened(step: str | int) -> str:
    name = str(step)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _step(target: dict[str, Any] | list[Any], name: str) -> str | int:
    return int(name) if isinstance(target, list) and name.isdecimal() else name


def _by_line(placed: tuple[str, ValidationProblem]) -> tuple[int, str]:
    _, _, line = placed[0].rpartition(":")
    return (int(line), "") if line.isdigit() else (0, placed[0])
