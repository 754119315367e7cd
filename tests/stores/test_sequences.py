"""No sequence of verbs settles twice, charges a response twice, loses a row, or puts the sums out of step.

Random moves, legal and illegal, current and stale, are played against a small model that says what each must answer;
then the database is counted anew.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.model import Charge, SkippedRow
from orchestrator.core.states import OPEN, SETTLED, State
from orchestrator.stores.base import Store
from orchestrator.stores.reads import Dependent, Duplicate
from orchestrator.stores.sqlite import SqliteReader, SqliteStore
from orchestrator.stores.writes import Acceptance, Ending, Release, Requeue

from .audit import audit
from .builders import NOW, PRICE, a_charge, a_claim, a_run, an_unknown_charge, mark, rows

ATTEMPTS = 1_000_000

Move: TypeAlias = tuple[str, int, int]
OF_A_REQUEST = (
    *("claim", "claim", "claim", "accept", "accept", "end", "end", "end"),
    *("release", "refuse", "late", "note", "join", "join", "join"),
)
OF_THE_RUN = ("plan", "replan", "chain", "requeue", "resolve", "cancel")
MOVES = st.tuples(
    st.sampled_from(OF_A_REQUEST + OF_THE_RUN),
    st.integers(0, 7),
    st.integers(0, 11),
)


@dataclass
class Row:
    """What the model knows of one request."""

    state: State = State.PENDING
    number: int = 0
    attempts: int = 0
    epoch: int = 0
    code: str | None = None
    # The row whose answer it waits for or shares, and the one that it follows in a chain.
    same_as: Row | None = None
    follows: Row | None = None
    in_chain: bool = False


@dataclass
class Turn:
    """One move: of which request, which of its attempts, and two numbers to vary it by."""

    row: Row
    request_id: int
    number: int
    which: int
    how: int

    @property
    def attempt_id(self) -> int:
        return self.request_id * ATTEMPTS + self.number

    @property
    def is_latest(self) -> bool:
        return self.number == self.row.number


@dataclass
class Game:
    """Plays moves on a store, and knows what each must answer."""

    store: Store
    run_id: int
    rows: list[Row] = field(default_factory=list)
    # The attempt that holds each response, and what each attempt's charge is (None: unknown).
    holders: dict[str, int] = field(default_factory=dict)
    named: dict[int, str] = field(default_factory=dict)
    charges: dict[int, int | None] = field(default_factory=dict)

    async def play(self, what: str, which: int, how: int) -> None:
        index = which % len(self.rows)
        row = self.rows[index]
        # One in six moves comes too late: it is about the attempt before the latest one.
        turn = Turn(row, index + 1, row.number - (how % 6 == 5), which, how)
        await getattr(self, what)(turn)

    async def finish(self) -> None:
        """Bring every request to its end, on the shortest way."""
        for index, row in enumerate(self.rows):
            if row.state is State.PENDING:
                await self.claim(Turn(row, index + 1, row.number, 0, 0))
            if row.state in (State.SUBMITTING, State.IN_DOUBT):
                await self.accept(Turn(row, index + 1, row.number, 0, 0))
            if row.state is State.SUBMITTED:
                await self.end(Turn(row, index + 1, row.number, 0, ENDINGS.index((State.SUBMITTED, State.SUCCEEDED))))

    # ── the whole run ─────────────────────────────────────────────────────────────────────────────────────

    async def plan(self, turn: Turn) -> None:
        await self.add(turn.which)

    async def add(self, count: int) -> None:
        start = len(self.rows)
        assert await self.store.add_rows(self.run_id, rows(count, start), [], mark(start + count)) == []
        self.rows += [Row() for _ in range(count)]

    async def chain(self, turn: Turn) -> None:
        start, length = len(self.rows), 1 + turn.how % 3
        planned = [replace(row, chain=f"chain-{start}", place=row.position) for row in rows(length, start)]
        await self.store.add_rows(self.run_id, planned, [], mark(start + length))
        assert await self.store.link_chains(self.run_id, NOW) == 1
        for place in range(length):
            earlier = self.rows[-1] if place else None
            state = State.BLOCKED if place else State.PENDING
            self.rows.append(Row(state, follows=earlier, in_chain=True))

    async def replan(self, turn: Turn) -> None:
        skipped = [SkippedRow(position=10_000 + turn.which, where="rows.jsonl", reason="not JSON")]
        assert await self.store.add_rows(self.run_id, rows(len(self.rows)), skipped, mark(0)) == []

    async def requeue(self, turn: Turn) -> None:
        states = [(State.FAILED,), (State.CANCELLED,), (State.FAILED, State.CANCELLED)][turn.how % 3]
        code = "broken" if turn.which % 2 else None
        moved = await self.store.requeue(Requeue(run_id=self.run_id, states=states, code=code, at=NOW))
        chosen = [
            row
            for row in self.rows
            if row.state in states
            and code in (None, row.code)
            and (row.follows is None or row.follows.state is State.SUCCEEDED)
        ]
        for row in chosen:
            row.state, row.code, row.attempts, row.same_as = State.PENDING, None, 0, None
        assert moved == len(chosen) + (self.block_again() if chosen else 0)

    def block_again(self) -> int:
        """What follows a turn that is to be tried again waits for it once more; says how many."""
        again = 0
        for row in self.rows:
            waits = row.follows is not None and row.follows.state not in SETTLED
            if waits and row.state in (State.FAILED, State.CANCELLED):
                row.state, row.code, row.attempts = State.BLOCKED, None, 0
                again += 1
        return again

    def settle(self, row: Row, to: State, code: str | None) -> list[Dependent]:
        """The row comes to its end; says what moves along with it."""
        row.state, row.code = to, code
        moved = []
        for index, other in enumerate(self.rows):
            if other.state is not State.BLOCKED:
                continue
            if other.same_as is row:
                other.state, other.code = to, code
            elif other.follows is row and to is State.SUCCEEDED:
                other.state = State.PENDING
            elif other.follows is not None and other.follows.state in (State.FAILED, State.CANCELLED):
                other.state, other.code = to, "cancelled" if to is State.CANCELLED else "chain_broken"
            else:
                continue
            moved.append(Dependent(f"row-{index}", other.state, other.code))
        return moved

    async def resolve(self, turn: Turn) -> None:
        word = "resend" if turn.how % 2 else "fail"
        moved = await self.store.requeue(Requeue(run_id=self.run_id, states=(), resolve_in_doubt=word, at=NOW))
        held = [(index, row) for index, row in enumerate(self.rows) if row.state is State.IN_DOUBT]
        for index, row in held:
            row.attempts = 0 if word == "resend" else row.attempts + 1
            self.charges[(index + 1) * ATTEMPTS + row.number] = None
            if word == "resend":
                row.state, row.code = State.PENDING, None
            else:
                self.settle(row, State.FAILED, row.code)
        assert moved == len(held) + (self.block_again() if held else 0)

    async def cancel(self, _: Turn) -> None:
        await self.store.request_cancel(self.run_id, NOW)
        for row in self.rows:
            if row.state in (State.PENDING, State.BLOCKED):
                row.state, row.code = State.CANCELLED, "cancelled"

    # ── one request ───────────────────────────────────────────────────────────────────────────────────────

    async def claim(self, turn: Turn) -> None:
        row = turn.row
        attempt_id = await self.store.claim(a_claim(turn.request_id, number=row.number + 1))
        assert (attempt_id is not None) == (row.state is State.PENDING)
        if attempt_id is not None:
            assert attempt_id == turn.request_id * ATTEMPTS + row.number + 1
            row.state, row.number = State.SUBMITTING, row.number + 1

    async def accept(self, turn: Turn) -> None:
        # Few names, so that a provider often names a response that another attempt holds.
        response_id = f"resp_{turn.how}" if turn.how > 7 else f"resp_{turn.attempt_id}"
        accepted = await self.store.accept(
            Acceptance(
                request_id=turn.request_id,
                attempt_id=turn.attempt_id,
                response_id=response_id,
                status="queued",
                at=NOW,
            )
        )
        assert accepted == (turn.row.state in (State.SUBMITTING, State.IN_DOUBT) and turn.is_latest)
        if accepted:
            turn.row.state, turn.row.code = State.SUBMITTED, None
            self.named[turn.attempt_id] = response_id
            self.holders.setdefault(response_id, turn.attempt_id)

    async def release(self, turn: Turn) -> None:
        released = await self.store.release(
            Release(
                request_id=turn.request_id,
                attempt_id=turn.attempt_id,
                not_before=NOW,
                rate_limited=turn.how % 2 == 0,
            )
        )
        assert released == (turn.row.state is State.SUBMITTING and turn.is_latest)
        if released:
            turn.row.state, turn.row.number = State.PENDING, turn.row.number - 1

    async def end(self, turn: Turn) -> None:
        row = turn.row
        source, to = ENDINGS[turn.how % len(ENDINGS)]
        charge = self.a_charge(turn, source, to)
        ended = await self.store.end(
            Ending(
                request_id=turn.request_id,
                attempt_id=turn.attempt_id,
                from_state=source,
                to=to,
                at=NOW,
                code=None if to is State.SUCCEEDED else "broken",
                output_text="An answer." if source is State.SUBMITTED else None,
                body=b'{"id": "resp"}' if source is State.SUBMITTED else None,
                charge=charge,
                renew_idempotency=source is State.SUBMITTED,
                count_attempt=turn.how % 3 != 0,
                possible_duplicate=source is not State.SUBMITTED and to is State.PENDING,
            )
        )
        assert (ended is not None) == (row.state is source and turn.is_latest)
        if ended is not None:
            code = None if to in (State.PENDING, State.SUCCEEDED) else "broken"
            if to in SETTLED:
                assert sorted(ended, key=str) == sorted(self.settle(row, to, code), key=str)
            else:
                row.state, row.code = to, code
            row.attempts += to is not State.IN_DOUBT and turn.how % 3 != 0
            row.epoch += source is State.SUBMITTED
            if charge is not None and not self.is_shared(turn.attempt_id):
                self.charges[turn.attempt_id] = charge.cost_pusd

    def a_charge(self, turn: Turn, source: State, to: State) -> Charge | None:
        if source is State.SUBMITTED:
            return a_charge(turn.how + 1) if turn.which % 2 else an_unknown_charge(turn.which)
        return an_unknown_charge(turn.which) if to is State.PENDING else None

    def is_shared(self, attempt_id: int) -> bool:
        return self.holders.get(self.named.get(attempt_id, ""), attempt_id) != attempt_id

    async def refuse(self, turn: Turn) -> None:
        refused = await self.store.fail_pending(turn.request_id, "broken", "it cannot be sent", NOW)
        assert (refused is not None) == (turn.row.state is State.PENDING)
        if refused is not None:
            assert sorted(refused, key=str) == sorted(self.settle(turn.row, State.FAILED, "broken"), key=str)

    async def join(self, turn: Turn) -> None:
        row, leaders = turn.row, [other for other in self.rows if other.same_as is None and not other.in_chain]
        leader = leaders[turn.how % len(leaders)] if leaders else row
        leads = any(other.same_as is row for other in self.rows)
        if leader is row or leads or row.in_chain:
            return  # nobody waits for himself or for two, and a turn of a chain asks what no other does
        equal = Duplicate(1 + next(index for index, other in enumerate(self.rows) if other is leader), here=True)
        moved = await self.store.join(turn.request_id, equal, b"sixteen bytes it", NOW)
        assert (moved is not None) == (row.state is State.PENDING)
        if moved is not None:
            row.same_as = leader
            row.state, row.code = (leader.state, leader.code) if leader.state in SETTLED else (State.BLOCKED, None)

    async def late(self, turn: Turn) -> None:
        if turn.attempt_id not in self.named or (turn.is_latest and turn.row.state in OPEN):
            return  # a late look is at a response of ours that has ended
        replaced = await self.store.late_charge(turn.attempt_id, a_charge(turn.how), "completed", b'{"late": true}')
        unknown = self.charges.get(turn.attempt_id) is None
        assert replaced == (unknown and not self.is_shared(turn.attempt_id))
        if replaced:
            self.charges[turn.attempt_id] = turn.how

    async def note(self, turn: Turn) -> None:
        await self.store.note_status(turn.attempt_id, "in_progress")


ENDINGS = [
    (State.SUBMITTED, State.SUCCEEDED),
    (State.SUBMITTED, State.PENDING),
    (State.SUBMITTED, State.FAILED),
    (State.SUBMITTED, State.CANCELLED),
    (State.SUBMITTING, State.IN_DOUBT),
    (State.SUBMITTING, State.PENDING),
    (State.SUBMITTING, State.FAILED),
    (State.IN_DOUBT, State.PENDING),
    (State.IN_DOUBT, State.FAILED),
    (State.SUBMITTED, State.SUCCEEDED),
]


async def played(moves: list[Move], database: Path, to_the_end: bool) -> None:
    async with SqliteStore.open(database, synchronous="NORMAL") as store, SqliteReader.open(database) as reader:
        run = await store.create_run(a_run())
        game = Game(store, run.id)
        await game.add(3)
        for what, which, how in moves:
            await game.play(what, which, how)
        if to_the_end:
            await game.finish()
            assert all(row.state in SETTLED for row in game.rows)
        summary = await reader.summary(run.id)
        records = [record async for record in reader.results(run.id, list(State))]
        pending = [*await reader.fresh(run.id, after_id=0, limit=999), *await reader.delayed(run.id, limit=999)]
        attempts = [attempt for record in records for attempt in await reader.attempts(record.request_id)]
        open_ = await reader.open_attempts(run.id)
    sums = audit(database)
    assert sums.states == Counter(row.state for row in game.rows)
    assert [(record.state, record.code) for record in records] == [(row.state, row.code) for row in game.rows]
    assert {request.id: (request.number, request.attempts, request.epoch) for request in pending} == {
        index + 1: (row.number, row.attempts, row.epoch)
        for index, row in enumerate(game.rows)
        if row.state is State.PENDING
    }
    assert len(open_) == sum(row.state in OPEN for row in game.rows)
    assert sum(count for state, count in summary.requests.items() if state in SETTLED) == sum(
        record.settled_at is not None for record in records
    )
    assert {each.id: each.charge.cost_pusd for each in attempts if each.charge is not None} == game.charges
    assert all(each.charge.price == PRICE for each in attempts if each.charge and each.charge.cost_pusd is not None)
    assert summary.cost_pusd == sums.cost_pusd == sum(cost or 0 for cost in game.charges.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MOVES, min_size=5, max_size=60), st.booleans())
def test_any_sequence_of_verbs_keeps_the_books_and_lets_all_end(moves: list[Move], to_the_end: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(played, moves, Path(folder) / "runs.db", to_the_end)
