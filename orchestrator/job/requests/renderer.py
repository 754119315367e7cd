"""From a row to the fields of its request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from orchestrator.core import exact_json
from orchestrator.core.errors import BadRow, SpecError
from orchestrator.job.documents.validation_problems import FieldPath
from orchestrator.job.requests.expressions import CannotRender
from orchestrator.job.requests.local_files import FileUnusable, LocalFiles, NamedFiles
from orchestrator.job.requests.parameters import missing_parameters, parameter_problems, store_problems
from orchestrator.job.requests.request_template import compile_request
from orchestrator.job.result_file import kept_columns
from orchestrator.job.rows.keyed_rows import Row
from orchestrator.job.rows.openai_batch import BODY
from orchestrator.job.rows.sources import resolve_format
from orchestrator.job.spec import Job

__all__ = ["Renderer", "contained", "unexpected"]

_ENDLESS = 2**63

PutFiles: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


class Renderer:
    """Fills in the job's request for each row.

    ``columns`` are the columns of a row that are kept, for rendering and for the results; None means all.
    ``required_columns`` are those that rendering cannot do without, each with the field of the request that reads it.
    ``carries_requests`` says that the input is an OpenAI batch file, whose lines are requests themselves;
    ``names_files`` that each row names files.
    """

    def __init__(
        self,
        job: Job,
        *,
        may_be_unstored: bool = False,
        files: LocalFiles | NamedFiles | None = None,
        private: Iterable[Path] = (),
    ) -> None:
        """Raises ``SpecError`` if the job has no model or no input, or if it says ``store: false``.

        ``may_be_unstored`` says that the provider accepts the latter. ``files`` fills in the files that rows name;
        default: those of the job's folder, without the ``private`` ones.
        """
        self._template, problems = compile_request(job.request)
        self.carries_requests = resolve_format(job.input.path, job.input.format, job.base_dir) == "openai-batch"
        if not self.carries_requests:
            problems += missing_parameters(job.request)
        self.names_files = self._template.names_files
        self._files = files or LocalFiles(job.files_folder, never=[*_never_sent(job), *private])
        # Only what runs in the background must be stored to be fetched.
        self._may_be_unstored = may_be_unstored or job.lane == "sync"
        self._where = job.where
        if not self._may_be_unstored:
            problems += store_problems(job.request)
        for problem in problems:
            where = str(job.source) if job.source is not None else None
            raise SpecError(f"request.{_dotted(problem.field)}: {problem.message}", where=where, hint=problem.hint)
        read = None if self.carries_requests else self._template.columns
        self.columns: frozenset[str] | None = kept_columns(read, job.included_columns)
        # In one order, so that every process packs a row to the same bytes.
        self._packed = sorted(self.columns) if self.columns is not None else []
        # Whether each row that passes ``check`` gives a right request.
        self.is_certain = self._template.certain and not self.carries_requests
        self.required_columns: Mapping[str, tuple[str | int, ...]] = self._template.required

    def pack(self, row: Row) -> bytes:
        """Returns the columns that are kept as compact JSON."""
        data = row.data
        if self.columns is None:
            return exact_json.dumps(data)
        return exact_json.dumps({name: data[name] for name in self._packed if name in data})

    def check(self, row: Row) -> None:
        """Raises ``BadRow`` if the row cannot be rendered.

        If the template only inserts columns, it is enough that they are present, and text where nothing but text is
        right; any other template is rendered.
        Any other error is not reported here: it fails the row alone, when the row is prepared.
        """
        data = row.data
        if self.is_certain:
            texts = self._template.text_columns
            for column in self._template.needed:
                value = data.get(column)
                if value is None or (column in texts and not isinstance(value, str)):
                    break
            else:
                return
        try:
            self._fields(data, row.where, self._files.check)
        except BadRow:
            raise
        except Exception:  # noqa: BLE001 – met again by the preparation, which stores it with the row
            return

    def rehearse(self, packed: bytes, *, where: str) -> dict[str, Any]:
        """Returns the fields for a packed row, but names files instead of reading them."""
        return self._fields(exact_json.loads(packed), where, self._files.check)

    def render(self, packed: bytes, *, where: str) -> dict[str, Any]:
        """Returns the request's fields for a packed row; raises ``BadRow``.

        The caller may change the top level; the values below it are shared with other requests.
        """
        return self._fields(exact_json.loads(packed), where, self._files.put_into)

    def _fields(self, data: Mapping[str, Any], where: str, put_files: PutFiles) -> dict[str, Any]:
        try:
            fields = self._template.fill(data)
            if self.names_files:
                fields = put_files(fields)
        except CannotRender as error:
            raise BadRow(f"{error}{self._template_at(error.field)}", where=where) from None
        except FileUnusable as error:
            raise BadRow(str(error), where=where) from None
        if self.carries_requests:
            fields = {**data[BODY], **fields}
            problems = [*parameter_problems(fields, templates=False), *missing_parameters(fields)]
        elif self._template.judged:
            _refuse_endless(fields, self._template.judged)
            problems = list(parameter_problems(fields, names=self._template.judged, templates=False))
        else:
            return fields
        if not self._may_be_unstored:
            problems += store_problems(fields)
        for problem in problems:
            part = "body" if self.carries_requests else "request"
            place = "" if self.carries_requests else self._template_at(problem.field)
            message = f"{part}.{_dotted(problem.field)}: {problem.message}{place}"
            raise BadRow(message, where=where, hint=problem.hint)
        return fields

    def _template_at(self, field: FieldPath) -> str:
        place = self._where(("request", *field))
        return f" (the template is in {place})" if place else ""


@contextmanager
def contained(where: str) -> Iterator[None]:
    """Raises ``BadRow`` instead of any other error, so that what one row makes fail does not stop the others."""
    try:
        yield
    except BadRow:
        raise
    except Exception as error:  # noqa: BLE001 – a row may hold anything
        raise unexpected(error, where=where) from None


def unexpected(error: Exception, *, where: str) -> BadRow:
    """Returns the error for a row that makes something fail that should not; it holds no text of the row."""
    words = error.strerror if isinstance(error, OSError) else None
    if words is None and isinstance(error, (orjson.JSONEncodeError, OverflowError)):
        words = str(error)
    kind = type(error).__name__
    return BadRow(f"no request can be made of this row ({f'{kind}: {words}' if words else kind})", where=where)


def _never_sent(job: Job) -> list[Path]:
    files = [job.base_dir / path for path in (job.input.path, *job.input.earlier_paths)]
    return files if job.source is None else [*files, job.source]


def _refuse_endless(fields: Mapping[str, Any], names: Iterable[str]) -> None:
    # Sent as they are, such numbers are counted nowhere: not by a provider, a budget or a database.
    for name in names:
        if isinstance(value := fields.get(name), int) and abs(value) >= _ENDLESS:
            raise OverflowError(f"request.{name} is too large a number")


def _dotted(field: tuple[str | int, ...]) -> str:
    return ".".join(map(str, field))
