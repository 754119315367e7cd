"""Values that are made for every row, by the dozen: frozen where types are checked, and plain where they run.

Python makes a frozen dataclass three times as slowly as a plain one, because each field of it is set by a call. That
alone was a twentieth of the CPU of a run. So the type checker is what keeps these from being changed.
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
    """A dataclass with slots whose fields are given by name, where nothing else is said, and never changed."""
    # Nothing about a hash is unsafe where nothing changes; without one, no field could have such a value by default.
    make = dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)
    return make if cls is None else make(cls)
