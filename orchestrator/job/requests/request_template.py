"""A request with templates at any depth, compiled once and filled in for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem
from orchestrator.job.requests.expressions import (
    BadTemplate,
    CannotRender,
    Expression,
    compile_expression,
    is_template,
)
from orchestrator.job.requests.parameters import CHECKED_PARAMETERS

__all__ = ["RequestTemplate", "compile_request"]

Row: TypeAlias = Mapping[str, Any]
Build: TypeAlias = Callable[[Row], Any]

# A template among other text gives text whatever the row; only in these fields is text always right.
_TEXT_FIELDS = frozenset({"input", "instructions", "model"})
# Of these, any text is right, also an empty one.
_ANY_TEXT_FIELDS = frozenset({"input", "instructions"})

# The shape of answers is the same for all rows, and the words of a schema are its own, whatever they look like.
_ANSWER_FORMAT = ("text", "format")


@fast_dataclass(kw_only=False)
class RequestTemplate:
    """The compiled request.

    ``columns`` are those that any template reads (None: any may be read), ``needed`` those without which one can
    fail; ``required`` names, for each column that a template cannot do without, the field that reads it. ``certain``
    says that a row which has the needed columns, none of them null and the ``text_columns`` text, gives a right
    request: these stand alone in a field that takes any text. ``judged`` are the top-level fields whose value is
    known only with a row. ``names_files`` says that the filled request holds marks where files belong.
    """

    columns: frozenset[str] | None
    needed: frozenset[str]
    required: Mapping[str, FieldPath]
    certain: bool
    text_columns: frozenset[str]
    judged: frozenset[str]
    names_files: bool
    _constants: Mapping[str, Any]
    _builds: tuple[tuple[str, Build], ...]

    def fill(self, row: Row) -> dict[str, Any]:
        """The request's fields for a row; raises ``CannotRender``.

        Constant values below the top level are shared by all requests and must not be changed in place.
        """
        fields = dict(self._constants)
        for name, build in self._builds:
            fields[name] = build(row)
        return fields


def compile_request(request: Mapping[str, Any]) -> tuple[RequestTemplate, list[ValidationProblem]]:
    """Compile every string of the request that holds a template; what cannot be compiled is a problem."""
    problems: list[ValidationProblem] = []
    expressions: list[Expression] = []
    required: dict[str, FieldPath] = {}
    constants: dict[str, Any] = {}
    builds: list[tuple[str, Build]] = []
    judged: set[str] = set()
    text_columns: dict[str, frozenset[str]] = {}
    for name, value in request.items():
        compiler = _Compiler(native=name != "metadata")
        build = compiler.compile(value, (name,))
        if build is None:
            constants[name] = value
        else:
            builds.append((name, build))
            # Keeps the order of the fields as written, so that identical requests are identical bytes.
            constants[name] = None
        if build is not None and not _shape_is_known(name, value, compiler.expressions):
            judged.add(name)
            if name in _ANY_TEXT_FIELDS and isinstance(value, str):
                text_columns[name] = _union(each.columns for each in compiler.expressions) or frozenset()
        problems += compiler.problems
        expressions += compiler.expressions
        for column, field in compiler.required.items():
            required.setdefault(column, field)
    return (
        RequestTemplate(
            columns=_union(expression.columns for expression in expressions),
            needed=frozenset[str]().union(*(expression.needed for expression in expressions)),
            required=required,
            certain=judged == text_columns.keys() and all(expression.inserts_only for expression in expressions),
            text_columns=frozenset[str]().union(*text_columns.values()),
            judged=frozenset(judged),
            names_files=any(expression.names_files for expression in expressions),
            _constants=constants,
            _builds=tuple(builds),
        ),
        problems,
    )


class _Compiler:
    def __init__(self, *, native: bool) -> None:
        self.native = native
        self.expressions: list[Expression] = []
        self.required: dict[str, FieldPath] = {}
        self.problems: list[ValidationProblem] = []

    def compile(self, value: Any, path: FieldPath) -> Build | None:
        """A function that fills the value in for a row, or None if the value is constant."""
        if path == _ANSWER_FORMAT:
            return None
        match value:
            case str() if is_template(value):
                return self._leaf(value, path)
            case dict():
                return self._mapping(value, path)
            case list() | tuple():
                return self._sequence(value, path)
        return None

    def _leaf(self, text: str, path: FieldPath) -> Build | None:
        try:
            expression = compile_expression(text, native=self.native)
        except BadTemplate as error:
            self.problems.append(ValidationProblem(path, str(error)))
            return None
        self.expressions.append(expression)
        self.required.update((column, path) for column in expression.required if column not in self.required)
        label = ".".join(map(str, path))

        def build(row: Row) -> Any:
            try:
                return expression(row)
            except CannotRender as error:
                raise CannotRender(f"request.{label}: {error}", path) from None

        return build

    def _mapping(self, value: dict[str, Any], path: FieldPath) -> Build | None:
        parts = [(name, inner, self.compile(inner, (*path, name))) for name, inner in value.items()]
        if all(build is None for _, _, build in parts):
            return None
        return lambda row: {name: build(row) if build else inner for name, inner, build in parts}

    def _sequence(self, value: list[Any] | tuple[Any, ...], path: FieldPath) -> Build | None:
        parts = [(inner, self.compile(inner, (*path, index))) for index, inner in enumerate(value)]
        if all(build is None for _, build in parts):
            return None
        return lambda row: [build(row) if build else inner for inner, build in parts]


def _shape_is_known(name: str, value: Any, expressions: list[Expression]) -> bool:
    """Whether the field is right for every row, so that it need not be judged row by row."""
    if name not in CHECKED_PARAMETERS:
        return True
    if isinstance(value, str):
        return name in _TEXT_FIELDS and all(expression.always_text for expression in expressions)
    return name == "input" and isinstance(value, (list, tuple))


def _union(columns: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    every: set[str] = set()
    for some in columns:
        if some is None:
            return None
        every |= some
    return frozenset(every)
