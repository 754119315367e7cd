"""Every statement is understood by a real server, and none of those that each row needs reads a whole table."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest

from orchestrator.stores.postgres.connection import PostgresConnection
from orchestrator.stores.postgres.database import open_connection
from orchestrator.stores.postgres.postgres_store import PostgresStore
from orchestrator.stores.sql.group_writer import Write
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.write_operations import claim
from tests.stores.builders import Harness, a_claim, a_run

from .new_schema import migrated, new_schema

pytestmark = pytest.mark.services

FILES = sorted(
    each.name
    for each in resources.files("orchestrator.stores.sql").joinpath("statements").iterdir()
    if each.name.endswith(".sql")
)
WIDENED = (
    "claim_request", "add_attempt", "accept_request", "accept_attempt", "end_request", "end_attempt", "add_charge",
    "add_result", "note_status", "add_request", "add_input_row",
)  # fmt: skip
FOR_MANY = ("add_chain_turn", "add_member", "add_skipped_row", "block_again", "keep_request", "mark_to_pass_on")
FOR_EACH_ROW = (
    "claimed", "is_in_state", "holder", "release_request", "remove_attempt", "settle_unsent", "unblock_next_turn",
    "settle_duplicates", "charge_so_far", "any_blocked", "move_tally", "add_totals", "move_spending",
)  # fmt: skip
READ = ("fresh", "delayed", "open_attempts", "results", "request_by_key", "attempts", "duplicate", "totals", "tally")
LARGE = {"request", "attempt", "charge", "result", "input_row"}
ROWS = 50_000
_ERRORS = psycopg.errors
# Without values a parameter may have no type, or another one than its value gives it.
_DECIDED_BY_THE_VALUE = (_ERRORS.IndeterminateDatatype, _ERRORS.AmbiguousFunction, _ERRORS.DatatypeMismatch)


@contextmanager
def closing_of(*, writes: bool) -> Iterator[PostgresConnection]:
    opened = open_connection(migrated(), writes=writes)
    with closing(opened.raw):
        yield opened


@pytest.fixture(params=[False, True], ids=["reader", "writer"])
def connection(request: pytest.FixtureRequest) -> Iterator[PostgresConnection]:
    new_schema()
    with closing_of(writes=request.param) as opened:
        yield opened


def prepare(connection: PostgresConnection, text: str) -> int:
    """Has the server read a statement; returns how many parameters it takes."""
    connection.raw.execute("DEALLOCATE ALL", prepare=False)
    connection.raw.execute(f"PREPARE one AS {text}", prepare=False)
    return len({*re.findall(r"\$(\d+)", text)})


@pytest.mark.parametrize("file", FILES)
def test_the_server_understands_every_statement(file: str, connection: PostgresConnection) -> None:
    refused: dict[str, str] = {}
    for name, statement in queries(file).items():
        many = connection.dialect.for_many(statement) if name in (*WIDENED, *FOR_MANY) else None
        for translated in (connection.dialect.translated(statement), many):
            if translated is None:
                continue
            try:
                prepare(connection, translated.text)
            except _DECIDED_BY_THE_VALUE:
                pass
            except psycopg.Error as error:
                refused[name] = str(error)
    assert refused == {}


def plan_of(connection: PostgresConnection, text: str) -> dict[str, Any]:
    count = prepare(connection, text)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    rows = connection.raw.execute(f"EXPLAIN (FORMAT JSON) EXECUTE one{values}", prepare=False).fetchall()
    plan: dict[str, Any] = rows[0][0][0]["Plan"]
    return plan


def fill(connection: PostgresConnection, rows: int) -> None:
    execute: Any = connection.raw.execute
    execute(
        "INSERT INTO run (id, name, uid, job, spec, fingerprint, input_identity, state, created_at, "
        "first_request_id, last_request_id) VALUES (1, 'a', 'a', 'a', '{}', '', '', 'active', 0, 1, $1)",
        [rows],
    )
    for statement in (
        "INSERT INTO request (id, run_id, stage, key, state) SELECT n, 1, 'main', 'k' || n, 'pending'",
        "INSERT INTO input_row (request_id, position, source, data) SELECT n, n, '', ''",
        "INSERT INTO attempt (id, idempotency_key, sent_at, response_id) SELECT n * 1000000 + 1, '', 0, 'r' || n",
        "INSERT INTO charge (attempt_id, charged_at, cost_pusd) SELECT n * 1000000 + 1, 0, 1",
        "INSERT INTO result (attempt_id, output_text) SELECT n * 1000000 + 1, ''",
    ):
        execute(f"{statement} FROM generate_series(1, $1::bigint) AS n", [rows])
    execute("ANALYZE")


def plans(connection: PostgresConnection, names: Sequence[str], *, many: bool = False) -> dict[str, dict[str, Any]]:
    statements = queries("write.sql") | queries("read.sql")
    dialect = connection.dialect
    chosen = {name: (dialect.for_many if many else dialect.translated)(statements[name]) for name in names}
    return {name: plan_of(connection, each.text) for name, each in chosen.items() if each is not None}


@pytest.mark.parametrize("rows", [0, ROWS], ids=["empty", "full"])
def test_what_each_row_needs_reads_no_whole_table(rows: int) -> None:
    """Planned when the table was empty, a statement must be good for a full one, and the reverse."""
    new_schema()
    with closing_of(writes=True) as writer, closing_of(writes=False) as reader:
        if rows:
            fill(writer, rows)
        found = plans(writer, WIDENED, many=True) | plans(writer, FOR_EACH_ROW)
        assert found.keys() == {*WIDENED, *FOR_EACH_ROW}
        if rows:
            found |= plans(reader, READ)
    assert {name: tables for name, plan in found.items() if (tables := tables_read_whole(plan))} == {}
    assert not any(node["Node Type"] == "CTE Scan" for name in WIDENED for node in nodes(found[name]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


def tables_read_whole(plan: dict[str, Any]) -> set[str]:
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"} & LARGE


async def group_s(harness: Harness, size: int) -> float:
    """The time that a group of claims takes in the database, the best of a few."""
    assert isinstance(harness.store, PostgresStore)
    writer, taken = harness.store.writer, list[float]()
    for number in range(4):
        pending = await harness.add(size, start=1_000_000 * size + 10_000 * number)
        group = [Write(claim, (a_claim(request.id, run_id=harness.run.id),)) for request in pending]
        began = time.perf_counter()
        outcomes = await anyio.to_thread.run_sync(writer._thread.submit(writer._apply, group).result)
        taken.append(time.perf_counter() - began)
        assert len(outcomes) == size
        assert all(isinstance(value, int) for value, _ in outcomes)
    return min(taken)


@pytest.mark.anyio
async def test_a_large_group_costs_no_more_for_each_of_its_verbs() -> None:
    """Ten times as many verbs take ten times as long; a join of two lists would take a hundred times."""
    backend = new_schema()
    async with backend.open_store() as store, backend.open_reader() as reader:
        harness = Harness(store, reader, await store.create_run(a_run()))
        small, large = await group_s(harness, 200), await group_s(harness, 2_000)
    print(f"200 claims in {small * 1e3:.1f} ms, 2,000 in {large * 1e3:.1f} ms")  # noqa: T201
    assert large < 25 * small
