"""The job file: what to ask, of which rows, and how hard to try."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from orchestrator.core.errors import SpecError
from orchestrator.core.money import Picodollars, format_usd, parse_usd
from orchestrator.core.section import Section
from orchestrator.job.chains import Chain, PromptCache
from orchestrator.job.documents.deadline_value import DeadlineValue, deadline_at
from orchestrator.job.documents.document import Document, apply_overrides
from orchestrator.job.documents.run_date import RunDate, date_document
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem, refuse
from orchestrator.job.documents.values import Duration, Usd
from orchestrator.job.incomplete import OnIncomplete, OnInvalid, RaiseMaxOutputTokens, Repairs
from orchestrator.job.increments import Increments
from orchestrator.job.lane_choice import LaneName, lane_problems
from orchestrator.job.requests.answer_format import (
    NoAnswerFormat,
    format_warnings,
    schema_problems,
    with_answer_format,
)
from orchestrator.job.requests.parameters import missing_parameters, parameter_problems, parameter_warnings
from orchestrator.job.requests.request_template import compile_request
from orchestrator.job.result_file import Included, Output, included_columns, result_path, without_path
from orchestrator.job.retention import RetentionSection
from orchestrator.job.rows.caps import InputCaps
from orchestrator.job.rows.given_rows import as_json_lines
from orchestrator.job.rows.sources import STDIN, GivenFormat, find_sources, resolve_format
from orchestrator.job.schedule_section import Schedule
from orchestrator.job.stages.pipeline import stage_problems
from orchestrator.job.stages.stage_section import StageSection
from orchestrator.job.tools import handler_problems

__all__ = [
    "FREE_TO_CHANGE",
    "Input",
    "Job",
    "JobBudget",
    "RetrySection",
    "changes_rows",
    "check_document",
    "load_job",
    "with_input",
]

_NO_DELIMITERS = '\r\n"\0'
_NAME = "^[a-z0-9][a-z0-9-]*$"

# What does not change the requests, and may therefore differ when a run is resumed.
FREE_TO_CHANGE = (
    "name",
    "retry",
    "budget",
    "deadline",
    "lane",
    "output",
    "retention",
    "stream",
    "input.on_bad_row",
    "input.limit",
    "input.may_be_empty",
    "input.caps",
    "tool_timeout",
    "max_turns",
    "duplicates",
    "reuse",
    "reuse_max_age",
    "increments",
    "schedule",
)
_NOT_IN_FINGERPRINT: dict[str, Any] = {
    **{field: True for field in FREE_TO_CHANGE if "." not in field},
    "input": {"on_bad_row", "may_be_empty", "caps"},
    # What it makes of the class stands in the request.
    "output_model": True,
    "stages": {"__all__": {"lane", "max_turns", "budget"}},
}


class Input(Section):
    """Where the rows come from."""

    path: str = Field(min_length=1, examples=["data/documents.jsonl.gz", "letters/*.txt", "-"])
    """The input file, relative to the job file. `*` and `**` name several files; `-` is standard input.
    `.jsonl`, `.csv`, `.txt` and `.md` may end in `.gz`."""
    format: GivenFormat = "auto"
    """How the file is read; `auto` goes by its suffix, and knows OpenAI batch files by their first line."""
    key: str | None = Field(default=None, min_length=1)
    """The column that identifies a row. Default: the file's path (text), `custom_id` (openai-batch), else the line
    number (with the file's path before it, where `path` names several files)."""
    delimiter: str | None = Field(default=None, examples=[";", "tab"])
    """What separates the fields of a CSV file: one character, or `tab`. Default: a tab for `.tsv`, else a comma."""
    encoding: str | None = Field(default=None, examples=["cp1252"])
    """The encoding of CSV and text files, such as `cp1252` for files of older Windows programs. Default: UTF-8."""
    caps: InputCaps = InputCaps()
    """Bounds of what a file may hold."""
    lookback: Annotated[Duration, Field(gt=0, le=366 * 86_400)] | None = Field(default=None, examples=["3d"])
    """Where `path` names `run.date`: read the files of so many days before it too, for rows that come late. A key
    that several days have counts for the latest of them."""
    earlier_paths: list[str] = Field(default_factory=list)
    """The paths of the days before; made of `path` and `lookback` when the job is read."""
    limit: int | None = Field(default=None, ge=1)
    """Read only this many rows. A run with a higher limit, or without one, continues with the others."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What to do with a row that cannot become a request: `stop` the run, or `skip` the row, recorded and counted."""
    may_be_empty: bool = False
    """Whether an input without a row that can be sent is a success; otherwise such a run ends with exit code 3."""

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str | None) -> str | None:
        found = "\t" if delimiter in ("tab", "\\t") else delimiter
        if found is not None and (len(found) != 1 or found in _NO_DELIMITERS):
            raise ValueError("must be one character, such as ;, or tab")
        return found

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            if encoding is None or "\n".encode(encoding) == b"\n":
                return encoding
        except LookupError:
            raise ValueError("is no known encoding; write utf-8, cp1252, latin-1, …") from None
        raise ValueError("does not keep lines apart; save the file as UTF-8")


class RetrySection(Section):
    """How often to try."""

    attempts: int = Field(default=5, ge=1, le=100)
    """The most attempts of one request. Waiting for a rate limit is no attempt."""


class JobBudget(Section):
    """A hard cap: the worst case of each request is set aside before it is sent."""

    usd: Usd | None = Field(default=None, gt=0)
    """The most that the run may cost, in US dollars."""
    usd_per_request: Usd | None = Field(default=None, gt=0)
    """Your own upper bound for the cost of one request, if it has no other: for tools that the provider runs,
    images, files, stored prompts. So much is set aside for each. A request that costs more passes the cap by the
    difference."""

    @property
    def pusd(self) -> Picodollars | None:
        """The cap in picodollars, or None."""
        return None if self.usd is None else parse_usd(self.usd)

    @property
    def request_bound_pusd(self) -> Picodollars | None:
        """What is set aside for a request without a bound, in picodollars, or None."""
        return None if self.usd_per_request is None else parse_usd(self.usd_per_request)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.usd is None and self.usd_per_request is None:
            raise ValueError("must hold usd, usd_per_request or both")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where the fields of a job are written, which makes no difference between two jobs."""

    where: Callable[[FieldPath], str | None]

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Places)

    def __hash__(self) -> int:
        return 0


class Job(Section):
    """One file that describes a whole job: rows in, one request for each, results out."""

    name: str = Field(max_length=100, json_schema_extra={"pattern": _NAME})
    """The job's name: small letters, digits and hyphens. Runs are named after it."""
    input: Input
    """Where the rows come from."""
    request: dict[str, Any] = Field(default_factory=dict)
    """Any field of `POST /v1/responses`. Strings are Jinja templates over the row's columns; a string that is exactly
    one `{{ expression }}` keeps a value that is not text (a number, a list). Unknown fields are sent as they are.
    With an OpenAI batch file, whose lines carry the requests, the fields given here replace those of each line."""
    stages: dict[str, StageSection] | None = Field(default=None, min_length=1)
    """Several stages in place of one `request`: each makes its rows of those of an earlier one, and reads the answers
    of a stage as a column of the stage's name."""
    retry: RetrySection = RetrySection()
    """How often to try."""
    on_incomplete: OnIncomplete = "fail"
    """When an answer is cut off at `max_output_tokens`: `fail`, `keep` what there is, or
    `{raise_max_output_tokens_to: N}` to ask again with more room."""
    output_model: str | None = Field(default=None, examples=["models:Invoice"])
    """A Pydantic class that every answer must fit, as `package.module:Class`, found beside the job
    file, or in a module that the config allows. A strict schema is made of it and sent as `request.text.format`."""
    on_invalid: OnInvalid = "fail"
    """When an answer is not the JSON that `output_model` or `request.text.format` asks for: `fail`, `retry` from the
    beginning, or `repair`: send the model what is wrong, once; `{repairs: N}` up to N times."""
    handlers: dict[str, str] = Field(default_factory=dict, examples=[{"look_up": "tools:look_up"}])
    """Python functions that answer the calls of function tools, by the name of the tool: `module:function`, sync or
    async, found beside the job file, or in a module that the config allows."""
    max_turns: int = Field(default=8, ge=1, le=1000)
    """How many responses one row may take if tools are called; those that repair an answer are added."""
    tool_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """How long a handler may take; then the model receives an error instead of an answer."""
    chain: Chain | None = None
    """Rows that belong together, asked one after the other as the turns of one talk."""
    duplicates: Literal["once", "each"] = "once"
    """Whether rows that ask exactly the same are asked `once`, with the answer shared, or `each` by itself."""
    reuse: Literal["never", "same-request"] = "never"
    """Whether a row is given the answer that an earlier run in the database has for exactly the same request."""
    reuse_max_age: Annotated[Duration, Field(gt=0)] = 30 * 86_400.0
    """How long ago an answer may have been given or last used to be reused; for some requests, up to a fifth less."""
    increments: Increments | None = None
    """For the same job night after night: a row that was answered is not asked again until it changes."""
    schedule: Schedule | None = None
    """When `run --due` runs the job; each of its runs stands for a day, and is named by it."""
    prompt_cache: PromptCache | None = None
    """Help for the provider's prompt cache; without it nothing is set."""
    budget: JobBudget | None = None
    """A hard cap for the cost of the run; without it there is none."""
    deadline: DeadlineValue | None = None
    """When the run must be done: how long after its start, or a time of the clock with its zone, such as
    `"06:30 Europe/Berlin"` (without a zone, that of this machine). Past it, nothing new is sent."""
    lane: LaneName = "background"
    """How requests are carried out: in the `background` (polled until they end), as `sync` calls that are held until
    the answer is there, in a discounted `window-2h` or `window-8h`, at the `flex` tier, in files of a `batch` at
    half the price; or `auto`: the cheapest of these that meets the deadline."""
    output: Output = None
    """Where the results are exported at the end, relative to the job file; `.jsonl`, `.csv` or `.parquet`. With
    columns of the rows beside the answers: `{path: results.jsonl, include: [title, author]}`. For a job with stages:
    the results of the last stage, or of several stages, each by its name with a file of its own. A trial (a run with
    `--limit`, or with `--set` of what decides rows or requests) does not write it, and neither does a run without a
    success if it exists."""
    files: str | None = Field(default=None, min_length=1)
    """The folder of the files that rows name for the template filters `data_url` and `upload`, relative to the job
    file; those outside it are not read. Default: the folder of the input file."""
    stream: bool = False
    """For a few long tasks: stream each response, store its progress, and poll as soon as the stream reports the end.
    At most 16 are open at once, and more than 200 rows are refused. The results are the same."""
    retention: RetentionSection = RetentionSection()
    """What is kept of a run once it is over, at the provider and here."""

    _source: Path | None = PrivateAttr(default=None)
    _run: RunDate | None = PrivateAttr(default=None)
    _has_dated_requests: bool = PrivateAttr(default=False)
    _places: _Places | None = PrivateAttr(default=None)
    _rows: bytes | None = PrivateAttr(default=None)

    @property
    def rows(self) -> bytes | None:
        """The rows that a program gave, as lines of JSON; None for a job that reads files."""
        return self._rows

    def with_rows(self, rows: Any, *, key: str | None = None) -> Self:
        """The same job with rows from memory in place of its input: mappings, Pydantic objects, or a data frame.

        ``key`` names the column that identifies a row; without it, it is the job's own.
        """
        given = {"path": STDIN, "format": "jsonl"} | ({"key": key} if key is not None else {})
        job = self.model_copy(update={"input": self.input.model_copy(update=given)})
        job._rows = as_json_lines(rows)  # noqa: SLF001 – its own copy
        return job

    @property
    def source(self) -> Path | None:
        """The job file, or None for a job made in Python."""
        return self._source

    @property
    def day(self) -> date | None:
        """The day for which a run of the job stands, if the job names it, or has a schedule, or a day was given."""
        return None if self._run is None else self._run.day

    def named_run(self, name: str | None, *, new: bool) -> str | None:
        """The name of a run: as given, else that of the run for its day; None if runs are only numbered."""
        return name if name is not None or new or self._run is None else self._run.name

    @property
    def base_dir(self) -> Path:
        """The folder that paths in the job are relative to: the job file's own, or the working directory."""
        return self._source.parent if self._source else Path()

    @property
    def files_folder(self) -> Path:
        """The folder of the files that rows name."""
        if self.files is not None:
            return self.base_dir / self.files
        folder = Path(self.input.path).parent
        return self.base_dir if glob.has_magic(str(folder)) else self.base_dir / folder

    def deadline_at(self, now: float) -> float | None:
        """When a run that starts now must be done (Unix seconds), or None."""
        return deadline_at(self.deadline, now)

    @property
    def budget_pusd(self) -> Picodollars | None:
        """The most that the run may cost, in picodollars, or None."""
        return self.budget.pusd if self.budget is not None else None

    @property
    def dataset(self) -> str | None:
        """The dataset that holds the answers of the job across its runs; None without ``increments``."""
        return None if self.increments is None else self.increments.dataset or self.name

    @property
    def output_path(self) -> Path | None:
        """Where the results are exported, or None; the first file of several."""
        return next(iter(self.output_paths.values()), None)

    @property
    def output_paths(self) -> dict[str | None, Path]:
        """Where the results of each stage are exported that has an output; None is the stage of a job without any."""
        if isinstance(self.output, dict):
            return {stage: self._beside(path) for stage, path in self.output.items()}
        given = result_path(self.output)
        return {} if given is None else {self.last_stage: self._beside(given)}

    @property
    def last_stage(self) -> str | None:
        """The last stage that asks, whose answers are the results; None for a job without stages."""
        asking = [name for name, section in (self.stages or {}).items() if section.request is not None]
        return asking[-1] if asking else None

    def _beside(self, output: str) -> Path:
        path = self.base_dir / output
        # "results/x.jsonl" reads better than "jobs/../results/x.jsonl", where it is the same place.
        plain = Path(os.path.normpath(path))
        return plain if plain.resolve() == path.resolve() else path

    @property
    def included_columns(self) -> Included:
        """Which columns of the rows are kept for their results, besides those that templates read."""
        return included_columns(self.output)

    def without_output(self) -> Self:
        """The same job, which writes no file; the columns for a later export are kept."""
        return self.model_copy(update={"output": without_path(self.output)})

    def to_store(self) -> dict[str, Any]:
        """The job as a run keeps it: with what was found, so that it can be read where input and code are gone.

        That is the input's format, and the schema that was made of ``output_model``, which stands in the request.
        """
        spec = self.model_dump(mode="json", exclude={"output_model": True, "stages": {"__all__": {"output_model"}}})
        spec["input"]["format"] = resolve_format(self.input.path, self.input.format, self.base_dir)
        return spec

    def fingerprint(self, *, with_limit: bool = False) -> str:
        """A hash over all that decides the requests; runs are resumed only if it is the same.

        A field at its default counts as not given, so that a later version with more fields agrees with this one.
        ``input.limit`` counts only ``with_limit``, as in earlier versions, and where a run cannot grow by more rows:
        these could belong before rows of their chain that are answered, or into a night that is closed.
        """
        decisive = self.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT, exclude_defaults=True)
        if not with_limit and self.chain is None and self.increments is None:
            decisive["input"].pop("limit", None)
        canonical = json.dumps(decisive, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def warnings(self) -> list[str]:
        """What looks like a slip of the pen but may be meant: nothing of it is refused."""
        found = [*parameter_warnings(self.request), *format_warnings(self.request, on_invalid=self.on_invalid)]
        if self.retention.waits_for_export and self.output_path is None:
            found.append("retention waits for an export, and the job names no output: export the run to a file")
        if self._has_dated_requests and (self.increments is not None or self.reuse != "never"):
            found.append("run.date is part of the request, so every row is new each night; in metadata it is not")
        return found

    def model_post_init(self, context: Any) -> None:
        if isinstance(context, dict):
            self._source = context.get("source")
            self._places = _Places(context["where"]) if "where" in context else None
            self._run = context.get("run")
            self._has_dated_requests = context.get("has_dated_requests", False)

    def where(self, field: FieldPath) -> str | None:
        """Where a field of the job is written, as ``file:line``; None for a job made in Python."""
        return None if self._places is None else self._places.where(field)

    @model_validator(mode="before")
    @classmethod
    def _has_its_answer_format(cls, data: Any, info: ValidationInfo) -> Any:
        source = info.context.get("source") if isinstance(info.context, dict) else None
        folder = source.parent if source else Path()
        try:
            if not isinstance(data, dict):
                return data
            # A job made in Python is code already.
            allowed = info.context.get("allow_modules", ()) if source is not None and info.context else None
            return _with_formats(data, folder, allowed)
        except NoAnswerFormat as error:
            refuse("job", [error.problem])

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not re.fullmatch(_NAME, name):
            raise ValueError("must be small letters, digits and hyphens, such as my-job-2")
        return name

    @field_validator("request")
    @classmethod
    def _can_be_sent(cls, request: dict[str, Any]) -> dict[str, Any]:
        return _sendable(request, ())

    @field_validator("stages")
    @classmethod
    def _follow_on_each_other(cls, stages: dict[str, StageSection] | None) -> dict[str, StageSection] | None:
        if stages is None:
            return None
        problems = stage_problems(stages)
        refuse("stages", [replace(problem, field=problem.field[1:]) for problem in problems])
        return {name: _sendable_stage(name, section) for name, section in stages.items()}

    @model_validator(mode="after")
    def _has_one_kind_of_request(self) -> Self:
        if self.stages is None:
            return self
        beside = ("request", "chain", "handlers", "output_model", "increments", "prompt_cache")
        given = [name for name in beside if getattr(self, name)]
        if self.stream:
            given.append("stream")
        hint = "say it in the stage that it is meant for, if that is possible there"
        refuse("job", [ValidationProblem((name,), "cannot stand beside stages", hint) for name in given])
        return self

    @model_validator(mode="after")
    def _exports_its_stages(self) -> Self:
        if not isinstance(self.output, dict):
            return self
        asking = [name for name, section in (self.stages or {}).items() if section.request is not None]
        absent = "the job has no stages; name one file, or {path, include}"
        hint = f"the stages that ask: {', '.join(asking)}" if asking else absent
        unknown = [name for name in self.output if name not in asking]
        refuse("job", [ValidationProblem(("output", name), "is no stage that asks", hint) for name in unknown])
        return self

    @model_validator(mode="after")
    def _can_set_its_shares_apart(self) -> Self:
        shares = {name: each.budget.pusd for name, each in (self.stages or {}).items() if each.budget is not None}
        if not shares:
            return self
        whole, last = self.budget_pusd, list(shares)[-1]
        path = ("stages", last, "budget")
        if whole is None:
            hint = "add budget: {usd: …} to the job"
            refuse("job", [ValidationProblem(path, "can be set apart only within a budget of the job", hint)])
        elif (sum_pusd := sum(shares.values())) > whole:
            problem = (
                f"the stages set ${format_usd(sum_pusd)} apart, and the budget of the job is ${format_usd(whole)}"
            )
            refuse("job", [ValidationProblem(path, problem, "raise the one, or lower the others")])
        return self

    @model_validator(mode="after")
    def _has_handlers_for_its_tools(self) -> Self:
        refuse("job", list(handler_problems(self.request, self.handlers)))
        return self

    @model_validator(mode="after")
    def _chains_by_one_means(self) -> Self:
        linked = [name for name in ("previous_response_id", "conversation") if name in self.request]
        if self.chain is not None and linked:
            refuse("job", [ValidationProblem(("request", linked[0]), "is set by chain; leave one of the two out")])
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        if self.increments is None:
            return self
        if self.chain is not None:
            hint = "leave one of the two out: the answer to a turn depends on the turns before it"
            refuse("job", [ValidationProblem(("increments",), "rows of a chain cannot be compared one by one", hint)])
        if self.retention.outputs == "drop":
            hint = "increments rely on the answers of earlier runs"
            refuse("job", [ValidationProblem(("retention", "outputs"), "must be keep beside increments", hint)])
        return self

    @model_validator(mode="after")
    def _is_stored_if_it_is_repaired(self) -> Self:
        repaired = self.on_invalid == "repair" or isinstance(self.on_invalid, Repairs)
        if repaired and self.request.get("store") is False:
            hint = "let it be stored, or use on_invalid: retry"
            refuse("job", [ValidationProblem(("on_invalid",), "cannot repair an answer that is not stored", hint)])
        return self

    @model_validator(mode="after")
    def _streams_without_a_window(self) -> Self:
        options = self.request.get("background_options")
        window = options.get("completion_window") if isinstance(options, dict) else None
        if self.stream and window not in (None, "soonest"):
            hint = "leave one of the two out: the answer of a window comes when there is room for it"
            refuse("job", [ValidationProblem(("stream",), "cannot be used with a completion window", hint)])
        return self

    @model_validator(mode="after")
    def _fits_its_lane(self) -> Self:
        refuse("job", lane_problems(self.lane, self.request, stream=self.stream, chain=self.chain is not None))
        for name, stage in (self.stages or {}).items():
            problems = lane_problems(stage.lane or self.lane, stage.request or {}, stream=False)
            refuse("job", [replace(problem, field=("stages", name, *problem.field)) for problem in problems])
        return self

    @model_validator(mode="after")
    def _raises_indeed(self) -> Self:
        allowed = self.request.get("max_output_tokens")
        raised = self.on_incomplete
        if (
            isinstance(raised, RaiseMaxOutputTokens)
            and isinstance(allowed, int)
            and raised.raise_max_output_tokens_to <= allowed
        ):
            field = ("on_incomplete", "raise_max_output_tokens_to")
            refuse(
                "job", [ValidationProblem(field, f"must be more than request.max_output_tokens, which is {allowed}")]
            )
        return self


def load_job(
    path: str | Path,
    *,
    overrides: Mapping[str, str] | None = None,
    limit: int | None = None,
    allow_modules: Collection[str] = (),
    day: date | None = None,
    now: datetime | None = None,
) -> Job:
    """Read a job file; raises ``SpecError`` with file, line and field if it is wrong or its input is missing.

    ``overrides`` are ``--set`` paths with values as YAML scalars: ``{"request.model": "gpt-6.1-sol"}``; ``limit``
    stands in for ``input.limit``. ``allow_modules`` are modules that ``output_model`` may name although not beside
    the file. ``{{ run.date }}`` is ``day``; without one, the day that it is ``now`` in the job's time zone.
    """
    document = Document.read(Path(path), kind="job")
    apply_overrides(document, overrides or {})
    if limit is not None:
        document.set("input.limit", limit, source="--limit")
    is_trial = limit is not None or changes_rows(overrides or ())
    return with_input(document, check_document(document, allow_modules, day=day, now=now, is_trial=is_trial))


def check_document(
    document: Document,
    allow_modules: Collection[str] = (),
    *,
    day: date | None = None,
    now: datetime | None = None,
    is_trial: bool = False,
) -> Job:
    """The job of a file, whose input may be missing; raises ``SpecError``."""
    dates = date_document(document, day, now or datetime.now(UTC), is_trial=is_trial)
    return document.validate(Job, allow_modules=allow_modules, **dates)


def with_input(document: Document, job: Job) -> Job:
    """The same job; raises ``SpecError`` if its input is missing, or does not fit it."""
    try:
        sources = find_sources(job.input.path, job.base_dir, job.input.earlier_paths)
        layout = resolve_format(job.input.path, job.input.format, job.base_dir)
    except SpecError as error:
        if error.where is not None:
            raise
        raise document.error([ValidationProblem(("input", "path"), error.message, error.hint)]) from None
    if job.stages is None and layout != "openai-batch" and (absent := [*missing_parameters(job.request)]):
        raise document.error(replace(problem, field=("request", *problem.field)) for problem in absent)
    if job.increments is not None and job.input.key is None and layout in ("jsonl", "csv", "parquet"):
        hint = "name the column that identifies a row; line numbers change when rows are added"
        raise document.error([ValidationProblem(("increments",), "needs input.key", hint)])
    outputs = job.output_paths.values()
    if any(_same_file(source.path, output) for source in sources for output in outputs):
        raise document.error([ValidationProblem(("output",), "would overwrite the input", "name another file")])
    return job


def changes_rows(overrides: Iterable[str]) -> bool:
    """Whether one of these fields decides rows or requests; such a run is a trial beside those of the job."""
    harmless = tuple(f"{field}." for field in FREE_TO_CHANGE if field != "input.limit")
    return any(not f"{field}.".startswith(harmless) for field in overrides)


def _with_formats(data: dict[str, Any], folder: Path, allowed: Collection[str] | None) -> dict[str, Any]:
    """The job, and each of its stages, with the schema that is made of ``output_model``."""
    stages = data.get("stages")
    if not isinstance(stages, dict):
        return dict(with_answer_format(data, folder, allowed=allowed))
    return {
        **data,
        "stages": {
            name: with_answer_format(stage, folder, allowed=allowed) if _asks(stage) else stage
            for name, stage in stages.items()
        },
    }


def _asks(stage: Any) -> bool:
    return isinstance(stage, dict) and bool(stage.get("request"))


def _sendable_stage(name: str, section: StageSection) -> StageSection:
    if section.request is None:
        return section
    path = (name, "request")
    request = _sendable(section.request, path)
    merge = _sendable({**request, **section.merge}, (name, "merge")) if section.merge is not None else None
    handlers = [replace(each, field=(name, *each.field)) for each in handler_problems(request, section.handlers)]
    refuse("stages", handlers)
    absent = [replace(each, field=(*path, *each.field)) for each in missing_parameters(request)]
    refuse("stages", absent)
    return section.model_copy(update={"request": request, "merge": merge})


def _sendable(request: dict[str, Any], path: FieldPath) -> dict[str, Any]:
    """The request in the types of JSON; refused if it can be sent with no row."""
    refuse("request", _not_json(request, path))
    plain: dict[str, Any] = _plain(request)
    _, template_problems = compile_request(plain)
    for problems in ([*parameter_problems(plain), *template_problems], schema_problems(plain)):
        refuse("request", [replace(problem, field=(*path, *problem.field)) for problem in problems])
    return plain


def _same_file(one: Path, other: Path) -> bool:
    return one.name == other.name and one.resolve() == other.resolve()


def _not_json(value: Any, path: FieldPath) -> Iterator[ValidationProblem]:
    """What the request holds that a JSON body cannot."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(name, str):
                yield from _not_json(inner, (*path, name))
            else:
                yield ValidationProblem(path, "field names must be text")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _not_json(inner, (*path, index))
    elif isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            yield ValidationProblem(path, "must be a finite number")
        elif isinstance(value, Decimal) and Decimal(repr(float(value))) != value:
            yield ValidationProblem(path, "has more digits than a number of a request can", "put it in quotes")
    elif value is not None and not isinstance(value, (str, int)):
        yield ValidationProblem(path, f"holds a {type(value).__name__}, which JSON does not have")


def _plain(value: Any) -> Any:
    """The same in the types of JSON."""
    match value:
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case Decimal():
            return float(value)
    return value
