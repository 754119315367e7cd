"""A dataclass that is made quickly, once and for every row: immutable for the type checker, mutable at run time.

Python creates a frozen dataclass three times as slowly as a plain one, because it sets each field by a function call;
that took five percent of the CPU time of a run. It also compiles six functions for each class, which for the classes
of a run took a quarter of the time to start. So only the type checker prevents assignments to these values, and they
share the functions that compare and print.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import Field, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

__all__ = ["fast_dataclass"]

T = TypeVar("T")


@overload
def fast_dataclass(cls: type[T]) -> type[T]: ...


@overload
def fast_dataclass(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def fast_dataclass(cls: type[T] | None = None, *, kw_only: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a dataclass with slots that type checkers treat as frozen; fields are keyword-only by default.

    It is hashable by its fields although nothing prevents changes at run time: code that evades the type checker and
    assigns to a field breaks every set or dict that holds the value.
    """

    def make(plain: type[T]) -> type[T]:
        written = set(vars(plain))
        made = dataclass(slots=True, kw_only=kw_only, repr=False, eq=False)(plain)
        for name, method in _methods(fields(made)).items():  # type: ignore[arg-type]
            if name not in written:
                setattr(made, name, method)
        return made

    return make if cls is None else make(cls)


def _methods(stated: tuple[Field[Any], ...]) -> dict[str, Callable[..., Any]]:
    """The methods of a class with these fields, none of them compiled for it."""
    values = _getter([each.name for each in stated if each.compare])

    def equal(self: object, other: object) -> bool:
        return values(self) == values(other) if type(self) is type(other) else NotImplemented

    return {"__eq__": equal, "__hash__": lambda self: hash(values(self)), "__repr__": _represented}


def _getter(names: list[str]) -> Callable[[object], Hashable]:
    return attrgetter(*names) if names else lambda _: ()


@recursive_repr()
def _represented(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"
