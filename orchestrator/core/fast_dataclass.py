"""A dataclass for values created for every row: immutable for the type checker, mutable at run time.

Python creates a frozen dataclass three times as slowly as a plain one, because it sets each field by a function call;
that took five percent of the CPU time of a run. So only the type checker prevents assignments to these values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform, overload

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
    # Without a hash, dataclasses refuse such a value as the default of a field.
    make = dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)
    return make if cls is None else make(cls)
