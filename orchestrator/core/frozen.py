"""Values that are made for every row, by the dozen: frozen where types are checked, and plain where they run.

Python makes a frozen dataclass three times as slowly as a plain one, because each field of it is set by a call. That
alone was a twentieth of the CPU of a run. So the type checker is what keeps these from being changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["frozen"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A dataclass with slots whose fields are given by name and never changed."""
    return dataclass(slots=True, kw_only=True)(cls)
