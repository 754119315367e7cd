"""What both databases share stays shared: the same columns, and statements that PostgreSQL understands.

None of this needs a server.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from importlib import resources

import pytest

from orchestrator.stores.postgres.dialect import Dialect
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sqlite.migrations import migrations as sqlite_migrations

FILES = sorted(
    each.name for each in resources.files("orchestrator.stores.sql").joinpath("statements").iterdir()
    if each.name.endswith(".sql")
)  # fmt: skip
# Words that only SQLite has.
FOREIGN = re.compile(
    r"\b(iif|json_each|json_extract|json_group_array|datetime|printf|PRAGMA|INDEXED BY|OR IGNORE)\b|\?\d|IS NOT \w+\."
)
OF_POSTGRESQL = {"writer", "holder"}


def postgres_columns() -> dict[tuple[str, str], str]:
    """The type of each column, from the text of the migrations."""
    folder = resources.files("orchestrator.stores.postgres").joinpath("migrations")
    found: dict[tuple[str, str], str] = {}
    kinds = r"(bigint|double precision|text|bytea|jsonb|timestamptz)\b"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        script = file.read_text(encoding="utf-8")
        for table, body in re.findall(r"CREATE TABLE (\w+) \(\n(.*?)\n\)", script, re.DOTALL):
            found |= {(table, name): kind for name, kind in re.findall(rf"^  (\w+) {kinds}", body, re.MULTILINE)}
        for table, name, kind in re.findall(rf"ALTER TABLE (\w+) ADD COLUMN (\w+) {kinds}", script):
            found[table, name] = kind
    return found


def sqlite_columns() -> dict[tuple[str, str], str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in sqlite_migrations():
            connection.executescript(script)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            (table, column): kind
            for table in tables
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_xinfo({table})")
        }


def test_both_databases_have_the_same_columns() -> None:
    """A migration of one needs its counterpart in the other."""
    kinds = defaultdict(lambda: {"bytea", "jsonb"}) | {
        "INTEGER": {"bigint"}, "REAL": {"double precision"}, "TEXT": {"text"}, "BLOB": {"bytea"},
    }  # fmt: skip
    of_postgres, of_sqlite = postgres_columns(), sqlite_columns()
    assert {place for place in of_postgres if place[0] not in OF_POSTGRESQL} == of_sqlite.keys()
    assert {place for place, kind in of_sqlite.items() if of_postgres[place] not in kinds[kind]} == set()


@pytest.mark.parametrize("file", FILES)
def test_no_word_of_sqlite_is_left(file: str) -> None:
    dialect = Dialect(postgres_columns())
    left = {name: FOREIGN.findall(dialect.translated(statement).text) for name, statement in queries(file).items()}
    assert {name: words for name, words in left.items() if words} == {}


def prepared(statement: str) -> tuple[str, tuple[str, ...] | None]:
    found = Dialect({("pair", "a"): "text", ("pair", "b"): "double precision"}).translated(statement)
    return found.text, found.names


def test_parameters_are_numbered_by_their_first_use() -> None:
    assert prepared("SELECT a FROM t WHERE x = :one AND y = :two AND z = :one") == (
        "SELECT a FROM t WHERE x = $1 AND y = $2 AND z = $1",
        ("one", "two"),
    )


VALUES = "(SELECT value AS value FROM json_array_elements_text($1::json)) AS each"
IDS = "(SELECT value::bigint AS value FROM json_array_elements_text($1::json)) AS gone"


@pytest.mark.parametrize(
    ("sqlite", "postgres"),
    [
        ("max(a, (SELECT max(b) FROM t))", "greatest(a, (SELECT max(b) FROM t))"),
        ("min(count, 1) + max(id)", "least(count, 1) + max(id)"),
        (
            "iif(a = 1, iif(flag, 2, 3), f(4, 5))",
            "CASE WHEN a = 1 THEN CASE WHEN flag <> 0 THEN 2 ELSE 3 END ELSE f(4, 5) END",
        ),
        ("x IN (SELECT value FROM json_each(:names))", "x IN (SELECT value FROM " + VALUES + ")"),  # noqa: S608
        ("FROM json_each(:entry_ids) AS gone", f"FROM {IDS}"),
        (":code IS NULL OR :run_id IS NULL", "$1::text IS NULL OR $2::bigint IS NULL"),
        ("a.x IS NOT b.y AND c IS NOT NULL", "a.x IS DISTINCT FROM b.y AND c IS NOT NULL"),
    ],
)
def test_words_are_replaced(sqlite: str, postgres: str) -> None:
    assert prepared(sqlite)[0] == postgres


def test_a_statement_for_one_row_becomes_one_for_many() -> None:
    dialect = Dialect({("pair", "a"): "text", ("pair", "b"): "double precision"})
    inserted = dialect.for_many("INSERT INTO pair (a, b) VALUES (:a, :b) ON CONFLICT DO NOTHING")
    assert inserted is not None
    assert inserted.text == (
        "INSERT INTO pair (a, b) SELECT c.p_a, c.p_b FROM unnest($1::text[], $2::double precision[]) "
        "AS c (p_a, p_b) ON CONFLICT DO NOTHING"
    )
    assert inserted.values([{"a": "x", "b": 1}, {"a": None, "b": None}]) == ['{"x",NULL}', "{1.0,NULL}"]
    updated = dialect.for_many("UPDATE pair SET a = :status WHERE id = :id")
    assert updated is not None
    assert updated.text == (
        "UPDATE pair SET a = c.p_status FROM unnest($1::text[], $2::bigint[]) AS c (p_status, p_id)\n"
        "WHERE id = c.p_id"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM pair WHERE id = :id",
        "INSERT INTO pair (a, b) VALUES (:a, :b) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
        "INSERT INTO pair (a, b) SELECT :a, :b",
        "UPDATE pair SET a = other.a FROM other WHERE id = :id",
    ],
)
def test_others_are_run_row_by_row(statement: str) -> None:
    assert Dialect({("pair", "a"): "text", ("pair", "b"): "double precision"}).for_many(statement) is None
