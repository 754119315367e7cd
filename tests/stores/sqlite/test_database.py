"""The file: its schema, its versions, and the errors for a file that cannot be used."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import ExitCode, StoreError
from orchestrator.core.money import Bound
from orchestrator.core.states import State
from orchestrator.stores.reads import Duplicate
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sqlite import SqliteReader, SqliteStore
from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.migrations import migrations, statements
from tests.stores.builders import NOW, PRICE, Harness, a_charge, an_unknown_charge

from .audit import ask

pytestmark = pytest.mark.anyio


async def opened(path: Path, kind: type[SqliteStore | SqliteReader] = SqliteStore) -> None:
    async with kind.open(path):
        pass


def create(path: Path) -> None:
    anyio.run(opened, path)


def refusal(path: Path, kind: type[SqliteStore | SqliteReader] = SqliteStore) -> str:
    with pytest.raises(StoreError) as raised:
        anyio.run(opened, path, kind)
    assert raised.value.exit_code is ExitCode.STORE
    assert str(path) in str(raised.value)
    assert raised.value.hint
    return str(raised.value)


# ── versions ──────────────────────────────────────────────────────────────────────────────────────────────────


def schema_of(path: Path) -> list[tuple[str, str]]:
    return ask(path, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")


def upgrade(path: Path, scripts: list[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, scripts, path=path)


NEXT = """-- A later version.
ALTER TABLE run ADD COLUMN owner TEXT;

CREATE TABLE chain (
  -- Requests that run in order.
  id INTEGER PRIMARY KEY
) STRICT;
"""


def test_an_upgraded_database_has_the_schema_of_a_fresh_one(tmp_path: Path) -> None:
    later = [*migrations(), NEXT]
    upgrade(tmp_path / "fresh.db", later)
    for version in range(1, len(later) + 1):
        upgrade(tmp_path / "upgraded.db", later[:version])
    assert schema_of(tmp_path / "upgraded.db") == schema_of(tmp_path / "fresh.db")
    assert ask(tmp_path / "upgraded.db", "PRAGMA user_version") == [(len(later),)]


def test_opening_twice_changes_nothing(database: Path) -> None:
    create(database)
    before = schema_of(database)
    create(database)
    assert schema_of(database) == before
    assert ask(database, "PRAGMA user_version") == [(len(migrations()),)]


def test_a_failed_upgrade_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    upgrade(path, migrations())
    before = schema_of(path)
    with pytest.raises(sqlite3.OperationalError):
        upgrade(path, [*migrations(), NEXT + "CREATE TABLE run (id);\n"])
    assert schema_of(path) == before


def test_a_newer_version_is_refused_with_both_numbers(database: Path) -> None:
    create(database)
    newer = len(migrations()) + 3
    ask(database, f"PRAGMA user_version = {newer}")
    for kind in (SqliteStore, SqliteReader):
        message = refusal(database, kind)
        assert f"schema version {newer}" in message
        assert f"up to {len(migrations())}" in message


def test_processes_that_create_a_database_at_once_all_succeed(database: Path) -> None:
    script = (
        "import anyio, sys\n"
        "from orchestrator.stores.sqlite import SqliteStore\n"
        "async def main():\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    async with SqliteStore.open(sys.argv[1]): pass\n"
        "anyio.run(main)\n"
    )
    creators = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for creator in creators:
        assert creator.stdout is not None
        assert creator.stdout.readline() == "ready\n"
    for creator in creators:
        assert creator.stdin is not None
        creator.stdin.write("\n")
        creator.stdin.flush()
    assert [creator.communicate()[1] for creator in creators] == [""] * 3
    assert ask(database, "PRAGMA user_version") == [(len(migrations()),)]


# ── files that cannot be used ─────────────────────────────────────────────────────────────────────────────────


def test_no_such_folder(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "nowhere" / "runs.db")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path)
    assert "this is a folder" in refusal(tmp_path, SqliteReader)


def test_some_other_file(database: Path) -> None:
    database.write_bytes(b"key,text\n1,hello\n" * 100)
    for kind in (SqliteStore, SqliteReader):
        assert "this is not a database" in refusal(database, kind)
    assert database.read_bytes() == b"key,text\n1,hello\n" * 100


def test_the_database_of_another_program_is_left_alone(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE songs (title)")
        connection.commit()
    before = database.read_bytes()
    for kind in (SqliteStore, SqliteReader):
        assert "of another program" in refusal(database, kind)
    assert database.read_bytes() == before


def test_a_damaged_file(database: Path) -> None:
    create(database)
    pages = bytearray(database.read_bytes())
    pages[100:4096] = os.urandom(3996)
    database.write_bytes(pages)
    assert "is damaged" in refusal(database)


def test_nothing_to_read(database: Path) -> None:
    assert "there is no such database" in refusal(database, SqliteReader)
    assert not database.exists()
    database.touch()
    assert "the database is empty" in refusal(database, SqliteReader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_may_not_be_written(database: Path) -> None:
    create(database)
    database.chmod(0o444)
    database.parent.chmod(0o555)
    assert "cannot be written" in refusal(database)


# ── data of earlier versions ────────────────────────────────────────────────────────────────────────────────────


def migrate_again(database: Path, version: int, *newer: str, steps: int | None = None) -> None:
    """Take a database back to a version without these columns of ``run_total``, and apply the migrations of these."""
    count = len(newer) if steps is None else steps
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for column in newer:
            connection.execute(f"ALTER TABLE run_total DROP COLUMN {column}")
        connection.execute(f"PRAGMA user_version = {version}")
        migrate(connection, migrations()[: version + count], path=database)


async def test_a_migration_counts_the_answers_that_were_reused(harness: Harness, database: Path) -> None:
    first, second = await harness.add(2)
    await harness.store.join(second.id, Duplicate(first.id, here=True), b"fingerprint", NOW)
    await harness.succeed(first)
    migrate_again(database, 4, "reused", "latest_at")
    assert (await harness.summary()).reused == 1


async def test_a_migration_finds_the_latest_time_of_a_run(harness: Harness, database: Path) -> None:
    first, second = await harness.add(2)
    await harness.succeed(first)
    await harness.claim(second, at=NOW + 5)
    migrate_again(database, 5, "latest_at")
    assert await harness.reader.latest_at(harness.run.id) == NOW + 10


async def test_a_migration_counts_what_has_no_bound_and_what_is_estimated(harness: Harness, database: Path) -> None:
    bounded, unbounded, lost, guessed = await harness.add(4)
    await harness.succeed(bounded, charge=an_unknown_charge(700))
    await harness.succeed(unbounded, charge=an_unknown_charge(None))
    again = {"possible_duplicate": True, "charge": an_unknown_charge(None)}
    await harness.end(lost, await harness.submit(lost, worst_case_pusd=None), State.PENDING, **again)
    await harness.succeed(guessed, charge=a_charge(30, price=replace(PRICE, estimated=True)))
    before = await harness.summary()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for view in ("results", "attempts", "costs"):
            connection.execute(f"DROP VIEW {view}")
        connection.execute("ALTER TABLE charge DROP COLUMN estimated")
        for view in ("results", "attempts", "costs"):
            connection.execute(f"CREATE VIEW {view} AS SELECT 1")
    migrate_again(database, 7, "cost_unbounded", "possible_duplicates_unbounded", "cost_estimated_pusd", steps=1)
    assert await harness.summary() == before
    assert (before.cost_unknown_bound, before.possible_duplicates_bound) == (Bound(700, 2), Bound(0, 1))
    assert before.cost_estimated_pusd == 30


# ── the schema ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_table_is_strict_and_has_a_comment(database: Path) -> None:
    create(database)
    tables = ask(database, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    assert [name for name, strict in tables if not strict and not name.startswith("sqlite_")] == []
    for name, sql in ask(database, "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view')"):
        assert re.search(r"\n\s+-- [A-Z].*\.", sql), f"{name} has no comment in its schema"


def wrong(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE request SET state = 'done'",
        "UPDATE request SET state = 'pending'",
        "UPDATE request SET settled_at = NULL",
        "UPDATE request SET key = 'row-1' WHERE key = 'row-0'",
        "UPDATE request SET state = 7",
        "UPDATE run SET state = 'paused'",
        "UPDATE run SET spec = '{'",
        "UPDATE attempt SET response_id = 'resp_same'",
        "UPDATE attempt SET shares_response = 1, response_id = NULL",
        "UPDATE charge SET cost_pusd = -1",
        "UPDATE charge SET input_tokens = NULL",
        "INSERT INTO charge (attempt_id, charged_at) SELECT attempt_id, charged_at FROM charge",
        "INSERT INTO charge (attempt_id, charged_at) VALUES (77, 1)",
        "INSERT INTO attempt (id, idempotency_key, sent_at) VALUES (99000001, 'key', 1)",
        "INSERT INTO attempt (id, idempotency_key, sent_at) VALUES (1000000, 'key', 1)",
        "INSERT INTO input_row (request_id, position, source, data) VALUES (99, 1, 'file', '{}')",
        "UPDATE tally SET requests = -1",
    ],
)
async def test_the_schema_refuses_what_the_code_must_never_write(
    harness: Harness, database: Path, statement: str
) -> None:
    for request in await harness.add(2):
        await harness.succeed(request)
    wrong(database, statement)


async def test_equal_prices_are_stored_once(harness: Harness, database: Path) -> None:
    other = replace(PRICE, tier="flex", estimated=True)
    for request, price in zip(await harness.add(4), (PRICE, other, replace(PRICE), other), strict=True):
        await harness.succeed(request, charge=a_charge(price=price))
    assert ask(database, "SELECT tier, estimated FROM price ORDER BY id") == [("default", 0), ("flex", 1)]


async def test_duckdb_can_read_the_views(harness: Harness, database: Path) -> None:
    await harness.add(1)
    views = ask(database, "SELECT name, sql FROM sqlite_schema WHERE type = 'view'")
    assert {"results", "attempts", "costs", "stages"} <= {name for name, _ in views}
    # DuckDB hands a view to SQLite in words of its own, and has another one for this.
    assert [name for name, sql in views if "count(*)" in sql.lower()] == []


async def test_the_views_read_well(harness: Harness, database: Path) -> None:
    first, second, third = await harness.add(3)
    await harness.end(first, await harness.submit(first), State.PENDING, charge=a_charge(1))
    await harness.succeed(
        first, charge=a_charge(2_500_000_000_000), model="gpt-5-mini-2025-08-07", service_tier="default"
    )
    await harness.end(
        second, await harness.submit(second), State.FAILED, code="refusal", charge=an_unknown_charge(70)
    )
    await harness.submit(third)
    assert ask(
        database, "SELECT run, key, state, output_text, code, attempts, cost_usd, sent, settled FROM results"
    ) == [
        (
            "demo",
            "row-0",
            "succeeded",
            "An answer.",
            None,
            2,
            "2.500000000001",
            "2026-09-21 14:13:20",
            "2026-09-21 14:13:30",
        ),
        ("demo", "row-1", "failed", None, "refusal", 1, None, "2026-09-21 14:13:20", "2026-09-21 14:13:30"),
        ("demo", "row-2", "submitted", None, None, 1, None, "2026-09-21 14:13:20", None),
    ]
    assert ask(database, "SELECT key, number, status, cost_usd, ended FROM attempts ORDER BY key, number") == [
        ("row-0", 1, "completed", "0.000000000001", "2026-09-21 14:13:30"),
        ("row-0", 2, "completed", "2.5", "2026-09-21 14:13:30"),
        ("row-1", 1, "completed", None, "2026-09-21 14:13:30"),
        ("row-2", 1, "queued", None, None),
    ]
    assert ask(
        database,
        "SELECT run, model, responses, input_tokens, cost_usd, cost_pusd, cost_unknown, cost_unknown_at_most_usd"
        " FROM costs ORDER BY model",
    ) == [
        ("demo", "gpt-5-mini", 2, 100, "0.000000000001", 1, 1, "0.00000000007"),
        ("demo", "gpt-5-mini-2025-08-07", 1, 100, "2.5", 2_500_000_000_000, 0, "0"),
    ]
    assert ask(database, "SELECT DISTINCT cost_unbounded, cost_estimated_usd FROM costs") == [(0, "0")]


# ── the queries ───────────────────────────────────────────────────────────────────────────────────────────────

PLANS = {
    "fresh": "USING INDEX request_fresh (run_id=? AND stage=? AND rowid>?)",
    "delayed": "USING INDEX request_delayed (run_id=? AND not_before>?)",
    "open_attempts": "USING INDEX request_open (run_id=?)",
    "results": "request USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "costs": "attempt USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "spent": "spending USING PRIMARY KEY (day>?)",
    "uncosted": "charge USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "past_use": "attempt USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "spent_before": "attempt USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "attempts": "attempt USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "request_by_key": "(run_id=? AND stage=? AND key=?)",
    "states_in_range": "request USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "cancel_range": "request USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "restart_turns": "request USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "requeue_range": "request USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "doubted_in_range": "USING INDEX request_open",
    "broken_turns": "request USING INDEX request_follows",
}


def _all_queries() -> dict[str, str]:
    return queries("read.sql") | queries("write.sql") | queries("shared_budget.sql")


def plan_of(connection: sqlite3.Connection, query: str) -> list[str]:
    numbers = [int(number) for number in re.findall(r"\?(\d+)", query)]
    parameters = (1,) * max(numbers) if numbers else dict.fromkeys(re.findall(r":(\w+)", query), 1)
    return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]


def test_no_query_scans_a_table_that_grows(database: Path) -> None:
    create(database)
    assert PLANS.keys() <= _all_queries().keys()
    with closing(sqlite3.connect(database)) as connection:
        for name, query in _all_queries().items():
            plan = plan_of(connection, query)
            assert PLANS.get(name, "") in "\n".join(plan), name
            for step in plan:
                assert not re.match(r"SCAN (request|attempt|charge|result|input_row)\b", step), f"{name}: {step}"


def test_no_statement_names_a_state_that_a_request_moves_to() -> None:
    updates = {name: query for name, query in queries("write.sql").items() if "UPDATE request SET" in query}
    assert len(updates) > 10
    assert [name for name, query in updates.items() if re.search(r"\bstate = '", query)] == []


def test_results_and_queues_are_not_sorted(database: Path) -> None:
    create(database)
    with closing(sqlite3.connect(database)) as connection:
        for name in ("fresh", "delayed", "results"):
            assert not [step for step in plan_of(connection, queries("read.sql")[name]) if "TEMP B-TREE" in step], (
                name
            )


def test_statements_are_found_by_name() -> None:
    assert queries("read.sql")["recall"] == "SELECT value FROM memory WHERE name = :name"
    script = "-- about it\nCREATE TABLE a (\n  -- kept; with a semicolon\n  b\n);\n\nDROP TABLE a;\n"
    assert list(statements(script)) == ["CREATE TABLE a (\n  -- kept; with a semicolon\n  b\n);", "DROP TABLE a;"]


def test_a_statement_takes_its_parameters_in_the_order_it_names(tmp_path: Path) -> None:
    assert queries("write.sql")["accept_request"].endswith("WHERE id = ?1 AND number = ?2 AND state = ?3")
    statement = "-- name: a\n-- takes: second,\n-- takes: first\nSELECT :first, :second, :first;\n"
    (tmp_path / "right.sql").write_text(statement)
    (tmp_path / "wrong.sql").write_text(statement.replace(":first;", ":third;"))
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute(queries("right.sql", tmp_path)["a"], (2, 1)).fetchone() == (1, 2, 1)
    with pytest.raises(ValueError, match="other parameters"):
        queries("wrong.sql", tmp_path)


def test_every_statement_is_used() -> None:
    package = Path(sys.modules[queries.__module__].__file__ or "").parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    assert [name for name in _all_queries() if f'"{name}"' not in code] == []
