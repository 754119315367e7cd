"""Random sequences of verbs have the same answers in every store and in the reference model.

Moves are legal and illegal, of current and of earlier attempts, in two runs. After them, everything that a reader can
ask must have the same answer, and every request can still be settled.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

from orchestrator.core.lanes import Lane
from orchestrator.core.model import Charge, SkippedRow, ToolUse
from orchestrator.core.states import IN_FLIGHT, SETTLED, TRANSITIONS, Event, RunState, State
from orchestrator.stores.base import Backend, Reader, Store
from orchestrator.stores.reads import AttemptRecord, Continuation, Duplicate, RequestRecord, SharedCaps, ToolCall
from orchestrator.stores.retained import ObjectKind, ProviderObject
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload
from orchestrator.stores.writes import Acceptance, Adoption, Counts, Ending, Leaving, Release, Requeue

from .builders import NOW, PRICE, a_charge, a_claim, a_row, a_run, an_unknown_charge, mark
from .conftest import DRIVERS, Driver
from .model import ModelBackend

DAY = 86_400
RUNS, STAGES = ("one", "other"), ("main", "review")
FINGERPRINTS = [b"first", b"second"]
CODES = (None, "broken", "output_invalid", "run_timeout", "empty_output", "previous_response_not_found")
TEXTS = (None, "", "An answer.", "half a pair \ud83d")
ENDINGS = [
    (state, event)
    for state, event in TRANSITIONS
    if state in IN_FLIGHT and event not in (Event.ACCEPT, Event.RELEASE)
]
LEAVINGS = [event for state, event in TRANSITIONS if state is State.AWAITING_TOOLS]
GROUPINGS: tuple[list[str], ...] = ([], ["run", "model", "tier"], ["day", "stage", "state"], ["metadata.team"])
UPLOADS = [
    Upload(file_id=f"file-{n}", provider="p", sha256=b"%32d" % (n % 2), name="a.pdf", bytes=n, uploaded_at=NOW + n)
    for n in range(4)
]
# Fields that hold ids, which differ from store to store: what each of them names.
IDS = {
    "run_id": "run",
    "holders": "run",
    "Run.id": "run",
    "request_id": "request",
    "other_id": "request",
    "PendingRequest.id": "request",
    "PendingRequest.follows": "request",
    "RequestRecord.id": "request",
    "attempt_id": "attempt",
    "answered_by": "attempt",
    "AttemptRecord.id": "attempt",
    "ProviderObject.place": "attempt",
}

Move: TypeAlias = tuple[str, int, int, int]


@dataclass(frozen=True)
class Draw:
    """Two numbers by which a move varies."""

    a: int = 0
    b: int = 1


@dataclass
class Side:
    """A store with its reader, and its ids by names that every store shares."""

    store: Store
    reader: Reader
    ids: dict[tuple[str, str], int] = field(default_factory=dict)

    def run(self, name: str) -> int:
        return self.ids["run", name]

    def request(self, name: str) -> int:
        return self.ids["request", name]

    def attempt(self, name: str) -> int:
        # An attempt that was released, or that is still to be made, is no attempt of any store.
        return self.ids.get(("attempt", name), 10**9)

    def plain(self, value: Any, names: str | None = None) -> Any:
        """An answer with names in the place of ids."""
        if names is not None:
            found = {number: name for (kind, name), number in self.ids.items() if kind == names}
            return [found.get(each) for each in (value if isinstance(value, tuple) else [value])]
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        if isinstance(value, dict):
            return {key: self.plain(each) for key, each in value.items()}
        if not is_dataclass(value):
            return value
        kind = type(value).__name__
        return kind, {
            each.name: self.plain(getattr(value, each.name), IDS.get(f"{kind}.{each.name}") or IDS.get(each.name))
            for each in fields(value)
        }


Ask: TypeAlias = Callable[[Side], Awaitable[Any]]


@dataclass
class Target:
    """The request that a move is about, and one of its attempts, as the model has them now."""

    name: str
    record: RequestRecord
    tries: list[AttemptRecord]
    number: int

    @property
    def attempt(self) -> str:
        return f"{self.name}#{self.number}"

    @property
    def latest(self) -> AttemptRecord | None:
        return self.tries[-1] if self.tries else None

    @property
    def has_response(self) -> bool:
        return self.latest is not None and self.latest.response_id is not None


@dataclass
class Pair:
    """Plays moves on a store and on the model, whose answers must be equal."""

    side: Side
    model: Side
    at: float = NOW
    positions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RUNS, 0))
    # Requests by name (run/stage/key), and those that a duplicate was joined to.
    requests: list[str] = field(default_factory=list)
    originals: set[str] = field(default_factory=set)

    async def ask(self, ask: Ask) -> Any:
        """Ask both; returns the answer of the model."""
        answer = await ask(self.model)
        assert self.side.plain(await ask(self.side)) == self.model.plain(answer)
        return answer

    async def begin(self) -> None:
        for name in RUNS:
            for each in (self.side, self.model):
                each.ids["run", name] = (await each.store.create_run(a_run(name))).id
            await self.plan(name, 3)

    async def play(self, move: Move) -> None:
        verb, which, draw = move[0], move[1], Draw(*move[2:])
        self.at += DAY if draw.b == 0 else draw.b
        if verb in OF_RUNS:
            await OF_RUNS[verb](self, RUNS[which % 2], draw)
        else:
            target = await self.target(self.requests[which % len(self.requests)])
            # One in six moves comes too late: it is about the attempt before the latest one.
            target.number -= draw.a % 6 == 5
            if verb == "step":
                steps = STEPS.get(target.record.state, ["late charge"])
                verb = steps[draw.b % len(steps)]
            await OF_REQUESTS[verb](self, target, draw)

    async def target(self, name: str) -> Target:
        record = await request_of(self.model, name)
        assert record is not None
        tries = await self.model.reader.attempts(record.id)
        return Target(name, record, tries, len(tries))

    async def finish(self) -> None:
        """Settle every request, on the shortest way."""
        for _ in range(2 * len(self.requests)):
            targets = [await self.target(name) for name in self.requests]
            left = [target for target in targets if target.record.state not in SETTLED]
            if not left:
                return
            for target in left:
                await self.advance(target)
        raise AssertionError("some requests cannot be settled")

    async def advance(self, target: Target) -> None:
        match target.record.state:
            case State.PENDING:
                await self.claim(target, Draw())
            case State.SUBMITTING:
                await self.accept(target, Draw())
            case State.IN_DOUBT:
                await self.end_with(target, (State.IN_DOUBT, Event.FAIL), Draw())
            case State.SUBMITTED:
                await self.end_with(target, (State.SUBMITTED, Event.SUCCEED), Draw())
            case State.AWAITING_TOOLS:
                await self.leave(target, Draw(LEAVINGS.index(Event.FAIL)))
            case _:
                # Blocked: it moves with the one that it waits for, or can move if that is of another run.
                await self.end_wait(target, Draw())

    # ── the whole run ─────────────────────────────────────────────────────────────────────────────────────

    async def plan(self, run: str, count: int, *, stage: str = "main", chain: str | None = None) -> None:
        start = self.positions[run]
        planned = [
            a_row(position, stage=stage, chain=chain, place=None if chain is None else -position)
            for position in range(start, start + count)
        ]
        self.positions[run] += count
        await self.ask(lambda side: side.store.add_rows(side.run(run), planned, [], mark(start + count)))
        await self.learn(run, [f"{stage}/{row.key}" for row in planned])

    async def learn(self, run: str, keys: list[str]) -> None:
        """Learn the ids of requests that may be new."""
        for key in keys:
            name, found = f"{run}/{key}", 0
            for side in (self.side, self.model):
                record = await request_of(side, name)
                if record is not None:
                    side.ids["request", name], found = record.id, found + 1
            assert found in (0, 2)
            if found and name not in self.requests:
                self.requests.append(name)

    async def add(self, run: str, draw: Draw) -> None:
        await self.plan(run, draw.a % 4, stage=STAGES[draw.b % 2])

    async def add_again(self, run: str, draw: Draw) -> None:
        """Rows whose key is taken, in part, and a row that cannot be read."""
        start = self.positions[run]
        self.positions[run] += 3
        rows = [a_row(start, key=f"row-{draw.a}"), a_row(start + 1), a_row(start + 2, key=f"row-{start + 1}")]
        skipped = [SkippedRow(position=start + draw.a % 2, where="rows.jsonl", reason="not JSON")]
        skip = draw.b % 2 == 0
        await self.ask(lambda side: side.store.add_rows(side.run(run), rows, skipped, mark(start), skip_taken=skip))
        await self.learn(run, [f"main/{row.key}" for row in rows])

    async def add_chain(self, run: str, draw: Draw) -> None:
        await self.plan(run, 1 + draw.a % 3, chain=f"chain-{self.positions[run]}")
        await self.ask(lambda side: side.store.link_chains(side.run(run), self.at))
        chain = f"chain-{draw.a}"
        await self.ask(lambda side: side.store.keep_conversation(side.run(run), chain, f"conv_{draw.b}"))

    async def requeue(self, run: str, draw: Draw) -> None:
        states = [(State.FAILED,), (State.CANCELLED,), (State.FAILED, State.CANCELLED), ()][draw.a % 4]
        code = CODES[draw.b % len(CODES)] if draw.a % 3 == 0 else None
        word = (None, "resend", "fail")[draw.b % 3]
        await self.ask(
            lambda side: side.store.requeue(
                Requeue(run_id=side.run(run), states=states, code=code, resolve_in_doubt=word, at=self.at)
            )
        )

    async def cancel(self, run: str, _: Draw) -> None:
        await self.ask(lambda side: side.store.request_cancel(side.run(run), self.at))

    async def change_run(self, run: str, draw: Draw) -> None:
        state = (RunState.ACTIVE, RunState.HALTED, RunState.FINISHED, RunState.CANCELLED)[draw.a % 4]
        await self.ask(lambda side: side.store.set_run_state(side.run(run), state, "why", self.at))
        await self.ask(
            lambda side: side.store.adapt_run(side.run(run), budget_pusd=draw.a, deadline_at=None, input_identity="x")
        )
        await self.ask(lambda side: side.store.add_counts(side.run(run), Counts(polls=draw.a, elapsed_s=0.5)))
        await self.ask(lambda side: side.store.remember("learned", b"%d" % draw.b))

    async def retain(self, run: str, draw: Draw) -> None:
        gone = ProviderObject([*ObjectKind][draw.a % 3], ("resp_3", "conv_3", "file-1")[draw.a % 3])
        await self.ask(lambda side: side.store.keep_policy(side.run(run), "p", "{}"))
        await self.ask(lambda side: side.store.note_export(side.run(run), self.at))
        await self.ask(
            lambda side: side.store.note_deleted(side.run(run), gone, was_there=draw.b % 2 == 0, at=self.at)
        )
        await self.ask(lambda side: side.store.drop(side.run(run), inputs=draw.a % 4 == 3, outputs=draw.b % 4 == 3))

    async def upload(self, run: str, draw: Draw) -> None:
        await self.ask(lambda side: side.store.add_upload(UPLOADS[draw.a % 4], side.run(run)))

    # ── one request ───────────────────────────────────────────────────────────────────────────────────────

    async def claim(self, target: Target, draw: Draw) -> None:
        run, stage, _ = target.name.split("/")
        name = f"{target.name}#{len(target.tries) + 1}"
        in_chain = target.record.chain is not None

        async def claim(side: Side) -> object:
            caps = SharedCaps(run_id=side.run(run), simulated=False, day_pusd=30_000, month_pusd=None)
            claim = a_claim(
                side.request(target.name),
                run_id=side.run(run),
                stage=stage,
                number=len(target.tries) + 1,
                idempotency_key=name,
                at=self.at,
                lane=tuple(Lane)[draw.b % len(Lane)],
                worst_case_pusd=None if draw.b == 9 else 1_000 * draw.b,
                caps=caps if draw.a == 4 else None,
                metadata='{"team": "a"}' if draw.b % 2 else None,
                fingerprint=None if in_chain else (*FINGERPRINTS, None)[draw.a % 3],
            )
            claimed = await side.store.claim(claim)
            if not isinstance(claimed, int):
                return claimed
            side.ids["attempt", name] = claimed
            return name

        await self.ask(claim)

    async def accept(self, target: Target, draw: Draw) -> None:
        # Few names, so that a provider often names a response that another attempt holds.
        response_id = f"resp_{draw.a}" if draw.a > 8 else f"resp of {target.attempt}"
        await self.ask(
            lambda side: side.store.accept(
                Acceptance(
                    request_id=side.request(target.name),
                    attempt_id=side.attempt(target.attempt),
                    response_id=response_id,
                    status="queued",
                    at=self.at,
                    from_state=State.IN_DOUBT if draw.b % 3 == 0 else State.SUBMITTING,
                )
            )
        )

    async def release(self, target: Target, draw: Draw) -> None:
        await self.ask(
            lambda side: side.store.release(
                Release(
                    request_id=side.request(target.name),
                    attempt_id=side.attempt(target.attempt),
                    not_before=self.at,
                    rate_limited=draw.b % 2 == 0,
                )
            )
        )

    async def end(self, target: Target, draw: Draw) -> None:
        legal = [ending for ending in ENDINGS if ending[0] is target.record.state]
        await self.end_with(target, (legal or ENDINGS)[draw.a % len(legal or ENDINGS)], draw)

    async def end_any(self, target: Target, draw: Draw) -> None:
        await self.end_with(target, ENDINGS[draw.a % len(ENDINGS)], draw)

    async def end_with(self, target: Target, ending: tuple[State, Event], draw: Draw) -> None:
        (source, event), to = ending, TRANSITIONS[ending]
        again, responded = to is State.PENDING, source is State.SUBMITTED
        # With a response, if it is its own and its cost is not known.
        own = target.latest is not None and target.latest.response_id == f"resp of {target.attempt}"
        duplicate = again and (not responded or (own and draw.b == 6 and draw.a % 3 > 0))
        values: dict[str, Any] = {
            "from_state": source,
            "event": event,
            "at": self.at,
            "code": None if event is Event.SUCCEED else CODES[draw.b % len(CODES)],
            "message": TEXTS[draw.a % 4],
            "status": ("completed", None, "incomplete")[draw.a % 3],
            "model": (None, "gpt-5")[draw.b % 2],
            "output_text": TEXTS[draw.b % 4] if responded else None,
            "body": b'{"id": "resp"}' if responded else None,
            "charge": self.a_charge(target, ending, draw),
            "not_before": (0.0, self.at + 100)[draw.a % 2],
            "renew_idempotency": responded,
            "count_attempt": draw.b % 4 != 0,
            "possible_duplicate": duplicate,
            "max_output_tokens": draw.a * 100 if draw.a % 4 == 3 else None,
            "continuation": Continuation(fields=b"{}", context_tokens=draw.b) if event is Event.CONTINUE else None,
        }

        async def end(side: Side) -> object:
            ending = Ending(request_id=side.request(target.name), attempt_id=side.attempt(target.attempt), **values)
            return sorted_moves(await side.store.end(ending))

        await self.ask(end)

    @staticmethod
    def a_charge(target: Target, ending: tuple[State, Event], draw: Draw) -> Charge | None:
        if ending[1] is Event.LOSE or (target.latest is not None and target.latest.charge is not None):
            return None
        if target.has_response and draw.b % 3:
            return a_charge(draw.a * 100, tool_use=ToolUse(web_searches=draw.b), price=PRICE if draw.a % 2 else None)
        # A lost attempt can cost its worst case.
        bound = target.latest.worst_case_pusd if target.latest is not None else None
        return an_unknown_charge(bound) if ending[0] is not State.SUBMITTED or draw.a % 3 else None

    async def leave(self, target: Target, draw: Draw) -> None:
        event = LEAVINGS[draw.a % len(LEAVINGS)]
        to = TRANSITIONS[State.AWAITING_TOOLS, event]
        continuation = Continuation(fields=b"[]", context_tokens=draw.a) if to is State.PENDING else None

        async def leave(side: Side) -> object:
            leaving = Leaving(
                request_id=side.request(target.name),
                attempt_id=side.attempt(target.attempt),
                event=event,
                at=self.at,
                code=None if to is State.PENDING else CODES[draw.b % len(CODES)],
                message=None if to is State.PENDING else TEXTS[draw.a % 4],
                continuation=continuation,
            )
            return sorted_moves(await side.store.leave(leaving))

        await self.ask(leave)

    async def refuse(self, target: Target, _: Draw) -> None:
        async def fail(side: Side) -> object:
            return sorted_moves(await side.store.fail_pending(side.request(target.name), "broken", "no", self.at))

        await self.ask(fail)

    async def join(self, target: Target, draw: Draw) -> None:
        """Join a request as the engine does: to what the store says is its duplicate."""
        if target.record.chain is not None or target.name in self.originals:
            return  # a turn of a chain has no duplicate, and none waits for a request that waits
        run, fingerprint = target.name.split("/")[0], FINGERPRINTS[draw.a % 2]
        found = await self.ask(lambda side: side.reader.duplicates(side.run(run), FINGERPRINTS))
        original: Duplicate | None = found.get(fingerprint)
        if original is None or original.request_id == self.model.request(target.name):
            return
        name = next(name for name in self.requests if self.model.request(name) == original.request_id)
        await self.join_to(target, name, fingerprint, here=True)

    async def join_to(self, target: Target, name: str, fingerprint: bytes, *, here: bool) -> None:
        self.originals.add(name)

        async def join(side: Side) -> object:
            original = Duplicate(side.request(name), here)
            return sorted_moves(await side.store.join(side.request(target.name), original, fingerprint, self.at))

        await self.ask(join)

    async def follow(self, target: Target, draw: Draw) -> None:
        """Take what another run has of the same request: its answer, or its open response; or wait for it."""
        if target.record.chain is not None or target.name in self.originals:
            return
        run, number, fingerprint = target.name.split("/")[0], len(target.tries) + 1, FINGERPRINTS[draw.b % 2]
        found = await self.ask(lambda side: side.reader.others(side.run(run), {fingerprint: NOW}))
        if fingerprint not in found:
            return
        other = found[fingerprint][draw.a % len(found[fingerprint])]
        name = next(name for name in self.requests if self.model.request(name) == other.request_id)
        if other.state not in (State.SUBMITTED, State.AWAITING_TOOLS) or draw.a % 3 == 0:
            await self.join_to(target, name, fingerprint, here=False)
            return
        self.originals.add(name)

        async def adopt(side: Side) -> object:
            adopted = await side.store.adopt(
                Adoption(
                    request_id=side.request(target.name),
                    run_id=side.run(run),
                    stage=target.record.stage,
                    number=number,
                    fingerprint=fingerprint,
                    adopted_id=side.request(name),
                    from_state=other.state,
                    at=self.at,
                )
            )
            if adopted is not None:
                side.ids["attempt", f"{target.name}#{number}"] = adopted.attempt_id
            return adopted

        await self.ask(adopt)

    async def end_wait(self, target: Target, draw: Draw) -> None:
        async def end_wait(side: Side) -> object:
            is_over = draw.a % 2 == 0
            return sorted_moves(await side.store.end_wait(side.request(target.name), self.at, is_over=is_over))

        await self.ask(end_wait)

    async def late_charge(self, target: Target, draw: Draw) -> None:
        ended = [each for each in target.tries if each.ended_at is not None and each.response_id is not None]
        if ended:
            name = f"{target.name}#{ended[draw.a % len(ended)].number}"
            charge = an_unknown_charge(draw.a) if draw.b % 3 == 0 else a_charge(draw.a)
            body = b'{"late": true}' if draw.a % 2 else None
            await self.ask(lambda side: side.store.late_charge(side.attempt(name), charge, "completed", body))

    async def note(self, target: Target, draw: Draw) -> None:
        await self.ask(lambda side: side.store.note_status(side.attempt(target.attempt), "in_progress"))
        if not target.has_response or target.number != len(target.tries):
            return  # only a response has a stream and calls tools
        events = [ProgressEvent(sequence=each, type="x", item=f"{draw.a}", at=NOW) for each in (draw.a, draw.b)]
        await self.ask(lambda side: side.store.add_progress(side.attempt(target.attempt), events))

        async def add_tool_call(side: Side) -> None:
            place, output = draw.a % 2, TEXTS[draw.b % 4] or ""
            call = ToolCall(
                attempt_id=side.attempt(target.attempt), call_id=f"call_{place}", place=place, name="look_up",
                arguments="{}", output=output, failed=False, started_at=NOW, ended_at=NOW,
            )  # fmt: skip
            await side.store.add_tool_call(call)

        await self.ask(add_tool_call)

    # ── all questions ─────────────────────────────────────────────────────────────────────────────────────

    async def compare(self) -> None:
        """Ask everything that a reader can be asked."""
        await self.ask(lambda side: side.store.remember("flush", b""))
        questions = [
            *QUESTIONS,
            *(of(run) for of in OF_RUN for run in RUNS),
            *(of(name) for of in OF_REQUEST for name in self.requests),
            *(of(name) for of in OF_ATTEMPT for kind, name in self.model.ids if kind == "attempt"),
        ]
        for question in questions:
            await self.ask(question)


def sorted_moves(moved: list[Any] | None) -> list[Any] | None:
    """Dependents in an order of their own: that in which they move is no promise."""
    return moved if moved is None else sorted(moved, key=str)


async def results(side: Side, run: str) -> object:
    return [record async for record in side.reader.results(side.run(run), list(State))]


async def provider_objects(side: Side, run: str, kind: ObjectKind) -> object:
    """All objects of a kind, read in pages; the order is no promise."""
    found: list[ProviderObject] = []
    after, limit = 0, 2 if kind is ObjectKind.RESPONSE else 1_000
    while page := await side.reader.provider_objects(
        side.run(run), kind, ended_before=NOW + 10 * DAY, after=after, limit=limit
    ):
        found, after = found + page, page[-1].place
        if after == 0:
            break
    return sorted((side.plain(each) for each in found), key=str)


async def request_of(side: Side, name: str) -> RequestRecord | None:
    run, stage, key = name.split("/")
    return await side.reader.request(side.run(run), key, stage=stage)


def caps(side: Side, run: str) -> SharedCaps:
    return SharedCaps(run_id=side.run(run), simulated=False, day_pusd=None, month_pusd=None)


QUESTIONS: list[Ask] = [
    lambda side: side.reader.runs(),
    lambda side: side.reader.recall("learned"),
    lambda side: side.reader.upload("p", UPLOADS[0].sha256),
    *(lambda side, by=by: side.reader.costs(None, by) for by in GROUPINGS),
]
OF_RUN: list[Callable[[str], Ask]] = [
    lambda run: lambda side: side.reader.run(run),
    lambda run: lambda side: side.reader.summary(side.run(run)),
    lambda run: lambda side: side.reader.latest_at(side.run(run)),
    lambda run: lambda side: side.reader.skipped(side.run(run)),
    *(
        lambda run, stage=stage: lambda side: side.reader.fresh(side.run(run), stage=stage, after_id=0, limit=999)
        for stage in STAGES
    ),
    lambda run: lambda side: side.reader.delayed(side.run(run), limit=999),
    lambda run: lambda side: side.reader.open_attempts(side.run(run)),
    lambda run: lambda side: results(side, run),
    lambda run: lambda side: side.reader.costs(side.run(run), ["state"]),
    lambda run: lambda side: side.reader.spending(caps(side, run), NOW + 2 * DAY),
    lambda run: lambda side: side.reader.uncosted(side.run(run), limit=3),
    lambda run: lambda side: side.reader.past_use(side.run(run), most=10**6),
    lambda run: lambda side: side.reader.retained(side.run(run)),
    lambda run: lambda side: side.reader.without_data(side.run(run), [State.FAILED], None),
    lambda run: lambda side: side.reader.duplicates(side.run(run), FINGERPRINTS),
    lambda run: lambda side: side.reader.others(side.run(run), dict.fromkeys(FINGERPRINTS, NOW)),
    lambda run: lambda side: side.reader.waits(side.run(run)),
    *(lambda run, kind=kind: lambda side: provider_objects(side, run, kind) for kind in ObjectKind),
]
OF_REQUEST: list[Callable[[str], Ask]] = [
    lambda name: lambda side: request_of(side, name),
    lambda name: lambda side: side.reader.attempts(side.request(name)),
    lambda name: lambda side: side.reader.earlier_turns(side.request(name), limit=9),
]
OF_ATTEMPT: list[Callable[[str], Ask]] = [
    lambda name: lambda side: side.reader.attempt(side.attempt(name)),
    lambda name: lambda side: side.reader.body(side.attempt(name)),
    lambda name: lambda side: side.reader.tool_calls(side.attempt(name)),
    lambda name: lambda side: side.reader.progress(side.attempt(name)),
    lambda name: lambda side: side.reader.last_progress(side.attempt(name)),
]
OF_RUNS: dict[str, Callable[[Pair, str, Draw], Awaitable[None]]] = {
    "add": Pair.add,
    "add again": Pair.add_again,
    "add chain": Pair.add_chain,
    "requeue": Pair.requeue,
    "cancel": Pair.cancel,
    "change run": Pair.change_run,
    "retain": Pair.retain,
    "upload": Pair.upload,
}
OF_REQUESTS: dict[str, Callable[[Pair, Target, Draw], Awaitable[None]]] = {
    "claim": Pair.claim,
    "accept": Pair.accept,
    "release": Pair.release,
    "end": Pair.end,
    "end any": Pair.end_any,
    "leave": Pair.leave,
    "refuse": Pair.refuse,
    "join": Pair.join,
    "follow": Pair.follow,
    "end wait": Pair.end_wait,
    "late charge": Pair.late_charge,
    "note": Pair.note,
}
# What a request in some state goes through next: most moves are such steps, or few requests would come far.
STEPS = {
    State.PENDING: ["claim", "claim", "claim", "join", "follow", "follow", "refuse"],
    State.BLOCKED: ["claim", "end wait", "end wait"],
    State.SUBMITTING: ["accept", "accept", "accept", "release", "end"],
    State.SUBMITTED: ["end", "end", "note"],
    State.IN_DOUBT: ["end", "accept"],
    State.AWAITING_TOOLS: ["leave", "note"],
}
VERBS = [*OF_RUNS, *OF_REQUESTS, *40 * ["step"]]


async def play(tested: Backend, moves: list[Move]) -> None:
    async with AsyncExitStack() as stack:
        sides = []
        for backend in (tested, ModelBackend()):
            store = await stack.enter_async_context(backend.open_store())
            sides.append(Side(store, await stack.enter_async_context(backend.open_reader())))
        pair = Pair(sides[0], sides[1])
        await pair.begin()
        for move in moves:
            await pair.play(move)
        await pair.compare()
        await pair.finish()
        await pair.compare()


def check(driver: Driver, moves: list[Move]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(play, driver.create(Path(folder)), moves)
        driver.audit(Path(folder))


def random_moves(seed: int, length: int) -> list[Move]:
    rng = random.Random(seed)
    return [
        (rng.choice(VERBS), rng.randrange(12), rng.randrange(12), rng.randrange(10))
        for _ in range(rng.randint(length // 2, length))
    ]


def fails(driver: Driver, moves: list[Move]) -> bool:
    try:
        check(driver, moves)
    except Exception:  # noqa: BLE001  # whatever it is, shorter sequences are tried for it
        return True
    return False


def check_random(driver: Driver, seed: int, length: int) -> None:
    """Play a random sequence; if it fails, name the moves that are needed for it."""
    moves = random_moves(seed, length)
    if not fails(driver, moves):
        return
    for move in list(moves):
        shorter = [each for each in moves if each is not move]
        if fails(driver, shorter):
            moves = shorter
    print(f"seed {seed} fails with these moves: {moves}")  # noqa: T201  # pytest shows it
    check(driver, moves)


drivers = pytest.mark.parametrize(
    "driver", [pytest.param(DRIVERS[name], id=name) for name in DRIVERS if name != "model"]
)


@drivers
@pytest.mark.parametrize("seed", range(16))
def test_random_sequences_have_the_answers_of_the_model(driver: Driver, seed: int) -> None:
    check_random(driver, seed, length=80)


@pytest.mark.long
@pytest.mark.timeout(1_200)
@drivers
def test_many_long_sequences_have_the_answers_of_the_model(driver: Driver) -> None:
    for seed in range(1_000, 1_600):
        check_random(driver, seed, length=200)
