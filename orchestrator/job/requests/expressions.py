"""Jinja templates, compiled once: which columns they read, and what they give for a row.

They run in a sandbox that changes nothing, and a name that a row does not have is an error, never an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.validation_problems import FieldPath, did_you_mean, listed
from orchestrator.job.requests.local_files import FILTERS, FileUnusable
from orchestrator.job.requests.template_bounds import (
    ACCOUNT,
    BoundedEnvironment,
    FieldsFirstEnvironment,
    TooMuch,
    charged,
    refuse_large,
)

__all__ = ["ROW", "BadTemplate", "CannotRender", "Expression", "compile_expression", "is_template"]

# The whole row, for columns whose name is no Jinja name: {{ row["Full Name"] }}.
ROW = "row"

_NO_LOADER = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
# Filters and tests that may be given a column that the row does not have.
_DEFAULTS = frozenset({"default", "d"})
_PRESENCE = frozenset({"defined", "undefined"})
# What stands alone in {{ }} and has no sign of an expression in it.
_INSERTED = re.compile(r"\{\{[-+]?\s*([^\s{}|()\[\]\"\\'~]+(?: +[^\s{}|()\[\]\"\\'~]+){0,7})\s*[-+]?\}\}")
_INSERTING = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name)


class BadTemplate(Exception):
    """The template itself is wrong, whatever the row."""


class CannotRender(Exception):
    """The template fails for one row. The message holds no text of the row.

    ``field`` is the place of the template in the request.
    """

    def __init__(self, message: str, field: FieldPath = ()) -> None:
        super().__init__(message)
        self.field = field


@fast_dataclass(kw_only=False)
class Expression:
    """A compiled template.

    ``columns`` are those it reads (None: any), ``needed`` those without which it can fail, ``required`` those of
    them whose absence it does not provide for, by ``default`` or ``is defined``. ``inserts_only`` says that it does
    no more than insert columns, so that it cannot fail for a row that has them, none of them null.
    ``always_text`` is False if the value may be a number, a list, an object or null. ``names_files`` says that it
    marks places where files belong.
    """

    columns: frozenset[str] | None
    needed: frozenset[str]
    required: frozenset[str]
    inserts_only: bool
    always_text: bool
    names_files: bool
    _evaluate: Callable[[Mapping[str, Any]], Any]

    def __call__(self, row: Mapping[str, Any]) -> Any:
        """The value for a row; raises ``CannotRender``."""
        try:
            return self._evaluate(row)
        except Exception as error:  # noqa: BLE001 – a template can raise anything, and its message may quote the row
            raise CannotRender(self._reason(error, row)) from None

    def _reason(self, error: Exception, row: Mapping[str, Any]) -> str:
        for column in sorted(self.needed):
            if column not in row:
                near = did_you_mean(column, row)
                return f'the row has no column "{column}"; ' + (near or f"its columns are: {listed(row)}")
        if isinstance(error, _IsNull):
            nulls = [column for column in sorted(self.needed) if row.get(column) is None]
            what = f'the column "{nulls[0]}"' if nulls else "a value"
            return f'{what} is null where the template inserts text; {{{{ column or "" }}}} inserts nothing'
        if isinstance(error, FileUnusable):
            return str(error)
        if isinstance(error, UndefinedError):
            return "the template reads a field that this row does not have"
        if isinstance(error, SecurityError):
            return "the template does something that is not allowed in a template"
        if isinstance(error, (TooMuch, MemoryError)):
            return "the template takes more time or memory for this row than a template may"
        if isinstance(error, _NotJson):
            return "the template gives something that JSON cannot hold; a sequence may need | list at its end"
        return f"the template fails for this row ({type(error).__name__})"


class _NotJson(Exception):
    pass


class _IsNull(Exception):
    pass


def is_template(text: str) -> bool:
    """Whether Jinja would do anything with the text; other text is a constant."""
    return "{{" in text or "{%" in text or "{#" in text


def compile_expression(text: str, *, native: bool) -> Expression:
    """Compile a template; raises ``BadTemplate``.

    With ``native``, a text that is exactly one ``{{ expression }}`` gives the expression's own value where that is
    not text: a number, a list, an object.
    """
    ACCOUNT.open()
    try:
        return _compiled(text, native=native)
    except BadTemplate:
        raise
    except TemplateSyntaxError as error:
        raise BadTemplate(_syntax_message(error, text)) from None
    except (TooMuch, RecursionError, MemoryError):
        raise BadTemplate("is too long, or nested too deeply, for a template") from None
    except Exception as error:  # noqa: BLE001 – a template from a stranger can hold anything
        raise BadTemplate(f"is not a valid template ({type(error).__name__})") from None


def _compiled(text: str, *, native: bool) -> Expression:
    # What only looks at a template already computes its constants.
    tree = _BOUNDED.parse(text)
    refuse_large(tree)
    _refuse_loading(tree)
    names = frozenset(meta.find_undeclared_variables(tree))
    of_row = _columns_of_row(tree) if ROW in names else frozenset()
    single = _single_expression(tree, text) if native else None
    inserts_only = all(isinstance(node, _INSERTING) for node in _walk(tree))
    # What only inserts columns needs no bounds: it makes nothing that is larger than the row.
    jinja = _JINJA if inserts_only else _BOUNDED
    evaluate = jinja.from_string(text).render if single is None else _native(text, single, jinja)
    if not inserts_only:
        evaluate = _on_account(evaluate)
    plain = names - {ROW}
    needed = (plain - _JINJA.globals.keys()) | (of_row or frozenset())
    return Expression(
        columns=None if of_row is None else plain | of_row,
        needed=needed,
        required=needed - _provided_for(tree),
        inserts_only=inserts_only,
        always_text=single is None,
        names_files=any(node.name in FILTERS for node in tree.find_all(nodes.Filter)),
        _evaluate=_with_row(evaluate) if ROW in names else evaluate,
    )


def _on_account(evaluate: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    def evaluated(row: Mapping[str, Any]) -> Any:
        ACCOUNT.open()
        return evaluate(row)

    return evaluated


def _native(text: str, single: nodes.Node, jinja: Environment) -> Callable[[Mapping[str, Any]], Any]:
    bare = text.strip()
    if isinstance(single, nodes.Name) and text == bare and single.name not in _JINJA.globals:
        # A column by itself needs no template machinery: this is the hot path of many jobs.
        column = single.name
        return lambda row: row[column]
    as_text = jinja.from_string(text).render
    # Without the braces, and the signs in them that eat the white space around.
    expression = jinja.compile_expression(re.sub(r"^\{\{[-+]?|[-+]?\}\}$", "", bare), undefined_to_none=False)

    def evaluate(row: Mapping[str, Any]) -> Any:
        value = expression(row)
        if isinstance(value, (str, Undefined)):
            return as_text(row)  # which keeps the white space around, and raises for what is undefined
        return _through_json(value)

    return evaluate


def _through_json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    try:
        return exact_json.loads(exact_json.dumps(value))
    except TypeError:
        raise _NotJson from None


def _with_row(evaluate: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: evaluate({**row, ROW: row})


def _single_expression(tree: nodes.Template, text: str) -> nodes.Node | None:
    """The expression, if the text is one ``{{ … }}`` with nothing but white space around it."""
    bare = text.strip()
    match tree.body:
        case [nodes.Output(nodes=[*parts])] if bare.startswith("{{") and bare.endswith("}}"):
            inserted = [part for part in parts if not (isinstance(part, nodes.TemplateData) and part.data.isspace())]
            if len(inserted) == 1 and not isinstance(inserted[0], nodes.TemplateData):
                return inserted[0]
    return None


def _columns_of_row(tree: nodes.Template) -> frozenset[str] | None:
    """The columns read through ``row`` where each is named by a constant, else None: any may be read."""
    named = [
        node.arg.value
        for node in tree.find_all(nodes.Getitem)
        if _is_row(node.node) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
    ]
    uses = sum(1 for node in tree.find_all(nodes.Name) if _is_row(node))
    return frozenset(named) if len(named) == uses else None


def _provided_for(tree: nodes.Template) -> frozenset[str]:
    """The columns for whose absence the template says what to do."""
    asked = [node.node for node in tree.find_all(nodes.Filter) if node.name in _DEFAULTS]
    asked += [node.node for node in tree.find_all(nodes.Test) if node.name in _PRESENCE]
    return frozenset(column for node in asked if node is not None and (column := _column_of(node)) is not None)


def _column_of(node: nodes.Node) -> str | None:
    """The column that an expression names, or that it reads a field of."""
    match node:
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str(column))) if _is_row(inner):
            return column
        case nodes.Getitem(node=inner) | nodes.Getattr(node=inner):
            return _column_of(inner)
        case nodes.Name(name=column):
            return column
    return None


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW


def _refuse_loading(tree: nodes.Template) -> None:
    if next(tree.find_all(_NO_LOADER), None) is not None:
        raise BadTemplate("a template cannot include or import another one")


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _syntax_message(error: TemplateSyntaxError, text: str) -> str:
    # The parser's ", got '…'" may quote the prompt.
    message = (error.message or "syntax error").split(", got ")[0].rstrip(".")
    where = f" (line {error.lineno} of it)" if "\n" in text.strip() else ""
    return f"is not a valid template{where}: {message}{_about_names(text)}"


def _about_names(text: str) -> str:
    """How to write a column whose name is no plain word, if the template seems to insert one."""
    if all(name.isidentifier() for name in _INSERTED.findall(text)):
        return ""
    return f'; a column whose name is no plain word is written {{{{ {ROW}["Ticket No"] }}}}'


def _written(value: Any) -> Any:
    """How a value appears inside text: text as it is, anything else as the JSON that the row had.

    Null is refused: a prompt that says "null" or "None" where a document should be is paid for, and noticed late.
    """
    if isinstance(value, (str, Undefined)):
        return value
    if value is None:
        raise _IsNull
    try:
        return exact_json.dumps(value).decode()
    except TypeError:
        return value


def _to_json(value: Any, indent: int | None = None) -> str:
    return exact_json.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()


def _charged(value: Any) -> Any:
    return _written(charged(value))


def _environment(kind: type[Environment], finalize: Callable[[Any], Any]) -> Any:
    environment = kind(undefined=StrictUndefined, finalize=finalize, keep_trailing_newline=True, autoescape=False)
    # Jinja's own tojson escapes for HTML, which would put \u003c into prompts.
    environment.filters["tojson"] = _to_json
    environment.filters.update(FILTERS)
    for name in environment.globals.keys() - {"range", "dict", "namespace"}:
        del environment.globals[name]
    return environment


_JINJA: Environment = _environment(FieldsFirstEnvironment, _written)
_BOUNDED: BoundedEnvironment = _environment(BoundedEnvironment, _charged)
_BOUNDED.bound_filters()
