"""A write that is refused fails alone; an error of the database fails the whole group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.stores.sql.group_writer import Write, apart_if_refused

REFUSED, BROKEN = ValueError("refused"), OSError("the disk is gone")


def verb(tx: Any, value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def a_group(*values: Any) -> list[Write]:
    return [Write(verb, (value,)) for value in values]


class Transactions:
    """Counts what was written together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, writes: Sequence[Write]) -> list[Any]:
        self.sizes.append(len(writes))
        return [write.verb(None, *write.arguments) for write in writes]


def unusable(error: Exception) -> bool:
    return isinstance(error, OSError)


def test_a_group_is_written_at_once() -> None:
    transact = Transactions()
    assert apart_if_refused(transact, a_group(1, 2, 3), unusable=unusable) == [(1, None), (2, None), (3, None)]
    assert transact.sizes == [3]


def test_a_refused_write_fails_alone() -> None:
    transact = Transactions()
    assert apart_if_refused(transact, a_group(1, REFUSED, 3), unusable=unusable) == [
        (1, None),
        (None, REFUSED),
        (3, None),
    ]
    assert transact.sizes == [3, 1, 1, 1]


def test_a_write_that_is_alone_is_not_tried_twice() -> None:
    transact = Transactions()
    assert apart_if_refused(transact, a_group(REFUSED), unusable=unusable) == [(None, REFUSED)]
    assert transact.sizes == [1]


def test_an_error_of_the_database_fails_the_whole_group() -> None:
    transact = Transactions()
    with pytest.raises(OSError, match="the disk is gone"):
        apart_if_refused(transact, a_group(1, BROKEN, 3), unusable=unusable)
    assert transact.sizes == [3]
