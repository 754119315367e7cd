from __future__ import annotations

import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import BadRow
from orchestrator.core.model import PlanMark
from orchestrator.job.chains import Chain
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import PlannedBatch, plan
from orchestrator.job.spec import Job

from .builders import MakeJob, Write, lines

FROM_START = PlanMark(position=0, complete=False)


def planned(job: Job, start: PlanMark = FROM_START, batch_size: int = 500) -> list[PlannedBatch]:
    return list(plan(job, Renderer(job), start=start, batch_size=batch_size))


def test_batches_with_their_marks(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    write("rows.jsonl", lines(*({"id": f"r{i}", "text": f"text {i}", "unused": "x"} for i in range(5))))
    first, second, last = planned(make_job(key="id"), batch_size=2)
    assert [batch.mark for batch in (first, second, last)] == [
        PlanMark(position=2, complete=False),
        PlanMark(position=4, complete=False),
        PlanMark(position=5, complete=True),
    ]
    row = second.rows[1]
    assert (row.key, row.position, row.stage) == ("r3", 3, "main")
    assert row.where == f"{tmp_path}/rows.jsonl:4"
    assert orjson.loads(row.row) == {"text": "text 3"}


def test_an_input_that_ends_with_a_batch_is_still_marked_complete(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines({"text": "1"}, {"text": "2"}))
    assert [(len(batch.rows), batch.mark.complete) for batch in planned(make_job(), batch_size=2)] == [
        (2, False),
        (0, True),
    ]


def test_an_empty_input_is_complete(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", "")
    assert planned(make_job()) == [PlannedBatch([], [], PlanMark(position=0, complete=True))]


def test_a_complete_plan_reads_nothing(write: Write, make_job: MakeJob) -> None:
    path = write("rows.jsonl", lines({"text": "1"}))
    job = make_job()
    renderer = Renderer(job)
    path.unlink()
    assert list(plan(job, renderer, start=PlanMark(position=1, complete=True))) == []


def test_long_rows_make_short_batches(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines(*({"text": "x" * 1_500_000} for _ in range(4))))
    assert [len(batch.rows) for batch in planned(make_job())] == [3, 1]


BAD = '{"text": "1"}\n{"txet": "CANARY"}\nCANARY\n{"text": null, "other": "CANARY"}\n{"text": "5"}\n'


def test_a_bad_row_stops_the_plan(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    write("rows.jsonl", BAD)
    job = make_job()
    batches = plan(job, Renderer(job), start=FROM_START, batch_size=1)
    assert len(next(batches).rows) == 1
    with pytest.raises(BadRow) as caught:
        next(batches)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        'rows.jsonl:2: request.input: the row has no column "text"; did you mean "txet"? '
        "(the template is in job.yaml:1)\n"
        "  hint: fix the template or the row, or leave such rows out with input.on_bad_row: skip"
    )


def test_bad_rows_are_left_out_and_recorded(write: Write, make_job: MakeJob, tmp_path: Path) -> None:
    write("rows.jsonl", BAD)
    [batch] = planned(make_job(on_bad_row="skip"))
    assert [row.position for row in batch.rows] == [0, 4]
    assert [
        (row.position, row.where.replace(f"{tmp_path}/", ""), row.reason.partition(";")[0]) for row in batch.skipped
    ] == [
        (1, "rows.jsonl:2", 'request.input: the row has no column "text"'),
        (2, "rows.jsonl:3", "the line is not valid JSON (column 1)"),
        (
            3,
            "rows.jsonl:4",
            'request.input: the column "text" is null where the template inserts text',
        ),
    ]
    assert batch.mark == PlanMark(position=5, complete=True)


def test_equal_keys_are_left_for_the_store_to_find(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines({"id": "a", "text": "1"}, {"id": "a", "text": "2"}))
    [batch] = planned(make_job(key="id"))
    assert [row.key for row in batch.rows] == ["a", "a"]


def test_standard_input(make_job: MakeJob) -> None:
    job = make_job(path="-")
    stdin = BytesIO(lines({"text": "1"}, {"text": "2"}).encode())
    [batch] = plan(job, Renderer(job), start=FROM_START, stdin=stdin)
    assert [row.where for row in batch.rows] == ["stdin:1", "stdin:2"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(good=st.lists(st.booleans(), max_size=30), size=st.integers(1, 8), stop_after=st.integers(0, 8))
def test_going_on_from_any_mark_plans_each_row_once(
    write: Write, make_job: MakeJob, good: list[bool], size: int, stop_after: int
) -> None:
    write("rows.jsonl", lines(*({"text" if each else "txet": str(i)} for i, each in enumerate(good))))
    job = make_job(on_bad_row="skip")
    whole = planned(job, batch_size=size)
    before = whole[: min(stop_after, len(whole))]
    after = planned(job, before[-1].mark if before else FROM_START, batch_size=3)
    for wanted in ("rows", "skipped"):
        straight = [row for batch in whole for row in getattr(batch, wanted)]
        resumed = [row for batch in (*before, *after) for row in getattr(batch, wanted)]
        assert resumed == straight
    assert [*before, *after][-1].mark == PlanMark(position=len(good), complete=True)


def many_rows(write: Write, count: int) -> None:
    write("rows.jsonl", "".join(f'{{"id": "row-{i}", "text": "{"lorem ipsum " * 13}"}}\n' for i in range(count)))


def test_planning_takes_constant_memory(write: Write, make_job: MakeJob) -> None:
    peaks = []
    for count in (2_000, 20_000):
        many_rows(write, count)
        job = make_job(key="id")
        tracemalloc.start()
        assert sum(len(batch.rows) for batch in plan(job, Renderer(job), start=FROM_START)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_planning_is_fast(write: Write, make_job: MakeJob) -> None:
    # 40,000 rows a second are promised; CPU time, because the machine may be busy with other tests.
    many_rows(write, 10_000)
    job = make_job(key="id")
    took_s = []
    for _ in range(3):
        before = time.process_time()
        assert sum(len(batch.rows) for batch in plan(job, Renderer(job), start=FROM_START)) == 10_000
        took_s.append(time.process_time() - before)
    assert min(took_s) < 0.25


# ── chains ────────────────────────────────────────────────────────────────────────────────────────────────────


def chained(job: Job, **chain: str) -> Job:
    return job.model_copy(update={"chain": Chain.model_validate(chain)})


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        (3, 3),
        ("10", 10),
        (" 9 ", 9),
        (2.5, 2.5),
        ("2.5", 2.5),
        # As floats, these two would be one.
        (1_790_000_000_000_000_001, 1_790_000_000_000_000_001),
        ("1790000000000000002", 1_790_000_000_000_000_002),
        (2**70, float(2**70)),
        ("2026-01-31", "2026-01-31"),
    ],
)
def test_the_place_of_a_turn_is_a_number_where_it_is_one(
    write: Write, make_job: MakeJob, place: object, kept: object
) -> None:
    write("rows.jsonl", lines({"text": "1", "talk": 7, "at": place}))
    [[row]] = [batch.rows for batch in planned(chained(make_job(), by="talk", order="at"))]
    assert (row.chain, row.place, type(row.place)) == ("7", kept, type(kept))


def test_a_chain_without_an_order_takes_that_of_the_input(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines({"text": "1", "talk": "a"}))
    [[row]] = [batch.rows for batch in planned(chained(make_job(), by="talk"))]
    assert (row.chain, row.place) == ("a", None)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "1", "at": 1}, "'talk', by which chain.by ties rows together"),
        ({"text": "1", "at": 1, "talk": None}, "'talk', by which chain.by ties rows together"),
        ({"text": "1", "at": 1, "talk": ["a"]}, "'talk', by which chain.by ties rows together"),
        ({"text": "1", "talk": "a"}, "'at', which orders a chain"),
        ({"text": "1", "talk": "a", "at": True}, "'at', which orders a chain"),
        ({"text": "1", "talk": "a", "at": {}}, "'at', which orders a chain"),
    ],
)
def test_a_row_that_has_no_place_in_a_chain_is_a_bad_one(
    write: Write, make_job: MakeJob, row: dict[str, object], says: str
) -> None:
    write("rows.jsonl", lines(row, {"text": "2", "talk": "a", "at": 2}))
    with pytest.raises(BadRow, match=says):
        planned(chained(make_job(), by="talk", order="at"))
    [batch] = planned(chained(make_job(on_bad_row="skip"), by="talk", order="at"))
    assert [planned.place for planned in batch.rows] == [2]
    assert [says in skipped.reason for skipped in batch.skipped] == [True]
