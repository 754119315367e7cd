"""Which columns of the rows of a group its templates read: pure, over the parsed template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import Environment, meta, nodes

from orchestrator.job.requests.expressions import BadTemplate, compile_expression, is_template

__all__ = ["ROWS", "columns_read", "member_columns", "texts_of"]

ROWS = "rows"
_JINJA = Environment(autoescape=False)  # noqa: S701 – only parses


def texts_of(value: Any) -> Iterator[str]:
    """Every template in a value of any depth."""
    if isinstance(value, str):
        if is_template(value):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_of(inner)


def member_columns(text: str) -> frozenset[str] | None:
    """The columns that a template may read of the rows of its group; None: any.

    A column is read as a field of a loop's variable. If such a variable, or ``rows`` itself, is used as a whole, all
    columns may be read.
    """
    tree = _JINJA.parse(text)
    outside = meta.find_undeclared_variables(tree)
    if ROWS not in outside:
        return frozenset()
    whole, fields = 0, set[str]()
    looped = {id(loop.iter) for loop in tree.find_all(nodes.For)}
    of_fields = set[int]()
    for access in tree.find_all(nodes.Getattr):
        of_fields.add(id(access.node))
        fields.add(access.attr)
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            of_fields.add(id(item.node))
            fields.add(item.arg.value)
    counted = {id(each.node) for each in tree.find_all(nodes.Filter) if each.name in ("length", "count")}
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load" or (name.name in outside and name.name != ROWS):
            continue
        harmless = looped | counted if name.name == ROWS else of_fields
        whole += id(name) not in harmless and name.name != "loop"
    return None if whole else frozenset(fields)


def columns_read(texts: Iterable[str]) -> frozenset[str] | None:
    """The columns that templates read; None: any. A template that cannot be read is reported elsewhere."""
    found = set[str]()
    for text in texts:
        try:
            columns = compile_expression(text, native=False).columns
        except BadTemplate:
            continue
        if columns is None:
            return None
        found |= columns
    return frozenset(found)
