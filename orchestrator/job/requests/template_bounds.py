"""Bounds the time and the memory that a template may take, so that a job or a row from a stranger stops no run.

Jinja's sandbox says what a template may touch, and nothing about how much: ``'x' * 10**9``, ``|center(10**9)`` and
nested loops are all safe to it. Here each loop turn, each call and each produced text is charged to an account that
begins again with each evaluation, before the memory is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from threading import local
from time import thread_time
from typing import Any, cast

from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

__all__ = ["ACCOUNT", "BoundedEnvironment", "FieldsFirstEnvironment", "TooMuch", "charged", "refuse_large"]

# Of one evaluation: turns of loops and calls, characters and items produced, seconds of this thread's processor.
_MOST_STEPS = 200_000
_MOST_SIZE = 64 * 2**20
_MOST_CPU_S = 1.0

# Of a template as it is written. Jinja's compiler is quadratic in the depth and recursive.
_MOST_NODES = 20_000
_DEEPEST = 100

_MOST_BITS = 10_000
_MOST_DIGITS = 1_000
_WIDTH = re.compile(r"\d{5}")
_PERCENT_WIDTH = re.compile(r"%(?:\([^)]*\))?[^a-zA-Z%]*?(?:\d{5}|\*)")

# The names of the filters that the compiled templates call; no template can write a name with brackets.
_LOOP, _OPERAND = "(loop)", "(operand)"


class TooMuch(Exception):
    """A template would take more time or memory than one may."""


class _Account(local):
    """What the evaluation that runs in this thread has taken so far."""

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Starts again at nothing."""
        self._steps = self._size = 0
        self._ends_at = thread_time() + _MOST_CPU_S

    def charge(self, size: int, *, steps: int = 1) -> None:
        """Raises ``TooMuch`` if this is more than is left."""
        self._steps += steps
        self._size += max(0, size)
        if self._steps > _MOST_STEPS or self._size > _MOST_SIZE or thread_time() > self._ends_at:
            raise TooMuch

    @property
    def left(self) -> int:
        """How much may still be produced."""
        return _MOST_SIZE - self._size


ACCOUNT = _Account()


def refuse_large(tree: nodes.Template) -> None:
    """Raises ``TooMuch`` if a template is so long or so deep that to compile it would take too long."""
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_NODES:
            raise TooMuch
        waiting += ((child, depth + 1) for child in node.iter_child_nodes())


class FieldsFirstEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that reads ``order.items`` as the field of an order, if it has one, and not as a method of Python."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Called by compiled templates."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


class BoundedEnvironment(FieldsFirstEnvironment):
    """A sandbox in which every evaluation charges what it takes to ``ACCOUNT``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def bound_filters(self) -> None:
        """Makes each filter charge what it takes; to be called once all filters are there."""
        self.filters = {name: _charging(name, function) for name, function in self.filters.items()}
        self.filters[_LOOP] = _counted
        self.filters[_OPERAND] = charged

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Called by compiled templates."""
        ACCOUNT.charge(_size_of_operation(operator, left, right))
        return super().call_binop(context, operator, left, right)

    # The names are Jinja's: any other may be that of an argument.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        """Called by compiled templates."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and (measure := _METHODS.get(__obj.__name__)) is not None:
            if __obj.__name__ == "join":
                args = tuple(list(each) if isinstance(each, Iterator) else each for each in args)
            ACCOUNT.charge(measure(owner, *args))
        return charged(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Called for each attribute of each text."""
        if super().wrap_str_format(value) is None:
            return None
        text, by_mapping = str(value.__self__), value.__name__ == "format_map"

        def formatted(*args: Any, **kwargs: Any) -> str:
            if by_mapping:
                [kwargs], args = args, ()
            return _BoundedFormatter(self).vformat(text, args, kwargs)

        return formatted

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Charging().visit(source), *args, **kwargs)


class _BoundedFormatter(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> Any:
        if _WIDTH.search(format_spec):
            raise TooMuch
        return charged(super().format_field(value, format_spec))


class _Charging(NodeTransformer):
    """Puts a charge around what repeats, and around what takes several values together."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 – named by Jinja
        self.generic_visit(node)
        written = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        items = cast(nodes.Expr, node.iter)
        node.iter = _filtered(items, _LOOP, nodes.Const(written, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(each, _OPERAND) for each in node.nodes]
        return node

    def _container(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        return _filtered(node, _OPERAND)

    visit_List = visit_Dict = _container  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._container(node) if node.ctx == "load" else node


def _filtered(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    made = nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
    if node.environment is not None:
        made.set_environment(node.environment)
    return made


def _counted(items: Iterable[Any], written: int) -> Iterator[Any]:
    for item in items:
        ACCOUNT.charge(written)
        yield item


def charged(value: Any) -> Any:
    """Returns the value, after its size was charged."""
    if isinstance(value, (str, list, tuple, dict)):
        ACCOUNT.charge(_weight(value))
    return value


def _weight(value: Any) -> int:
    """The size of a value if each of its parts were written out; one part can stand in it many times."""
    if isinstance(value, str):
        return len(value)
    most, weight = ACCOUNT.left, 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        weight += len(each) if isinstance(each, str) else 8
        if isinstance(each, Mapping):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, (list, tuple, set, frozenset)):
            waiting += each
        if weight > most or len(waiting) > most:
            raise TooMuch
    return weight


def _charging(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    measure = _FILTERS.get(name)
    # What Jinja passes first to some filters is no argument of the template.
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        if measure is not None:
            args = (*args[:passed], *(list(each) if isinstance(each, Iterator) else each for each in args[passed:]))
            ACCOUNT.charge(measure(*args[passed:], **kwargs))
        return charged(function(*args, **kwargs))

    return measured


def _size_of_operation(operator: str, left: Any, right: Any) -> int:
    match operator, left, right:
        case "+", (str() | list() | tuple()), (str() | list() | tuple()):
            return _weight(left) + _weight(right)
        case "*", (str() | list() | tuple()), int():
            return _weight(left) * right
        case "*", int(), (str() | list() | tuple()):
            return _weight(right) * left
        case "%", str(), _:
            return _size_of_percent(left, right)
        case "*", int(), int() if left.bit_length() + right.bit_length() > _MOST_BITS:
            raise TooMuch
        case "**", int(), int() if left.bit_length() * right > _MOST_BITS:
            raise TooMuch
    return 0


def _size_of_percent(text: str, values: Any) -> int:
    if _PERCENT_WIDTH.search(text):
        raise TooMuch
    return len(text) + text.count("%") * _weight(values)


def _numbers(*values: Any) -> int:
    return sum(value for value in values if isinstance(value, int))


def _size_of_replaced(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> int:
    return len(str(text)) + str(text).count(str(old)) * len(str(new))


def _size_of_joined(items: Any, between: Any = "", *_: Any, d: Any = "", **__: Any) -> int:
    return _weight(items) + len(items) * len(str(between or d))


def _size_of_rounded(_: Any, precision: Any = 0, *__: Any, **names: Any) -> int:
    if abs(_numbers(precision, *names.values())) > _MOST_DIGITS:
        raise TooMuch
    return 0


def _size_of_indented(text: Any, width: Any = 4, *_: Any, **names: Any) -> int:
    widest = names.get("width", width)
    return (str(text).count("\n") + 1) * (len(widest) if isinstance(widest, str) else int(widest))


def _size_of_wrapped(text: Any, *args: Any, **names: Any) -> int:
    between = max((len(each) for each in (*args, *names.values()) if isinstance(each, str)), default=1)
    return len(str(text)) * (1 + between)


def _size_of_filled(_: Any, count: Any, *filled: Any, **names: Any) -> int:
    return _numbers(count, names.get("linecount"), names.get("slices")) * (1 + _weight([*filled, *names.values()]))


def _size_of_translated(text: str, table: Any, *_: Any) -> int:
    return len(text) * (1 + _weight(table)) if isinstance(table, Mapping) else 0


_FILTERS: Mapping[str, Callable[..., int]] = {
    "batch": _size_of_filled,
    "center": lambda _, width=80, **names: _numbers(width, *names.values()),
    "format": lambda text, *args, **names: _size_of_percent(str(text), [*args, *names.values()]),
    "indent": _size_of_indented,
    "join": _size_of_joined,
    "replace": _size_of_replaced,
    "round": _size_of_rounded,
    "slice": _size_of_filled,
    # Its search for the end of comments begins at each of them.
    "striptags": lambda text: len(str(text)) * (1 + str(text).count("<!--")),
    "wordwrap": _size_of_wrapped,
}
_METHODS: Mapping[str, Callable[..., int]] = {
    "center": lambda _, width, *__: _numbers(width),
    "expandtabs": lambda text, tabs=8: (text.count("\t") + 1) * _numbers(tabs),
    "join": lambda between, items: _size_of_joined(items, between),
    "ljust": lambda _, width, *__: _numbers(width),
    "replace": _size_of_replaced,
    "rjust": lambda _, width, *__: _numbers(width),
    "translate": _size_of_translated,
    "zfill": lambda _, width: _numbers(width),
}
