"""What each verb of the store writes: plain functions, run in the writer's thread and transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from orchestrator.core.model import Charge, NewRequest, PlanMark, SkippedRow
from orchestrator.core.money import Picodollars
from orchestrator.core.stage_rows import NewGroup
from orchestrator.core.states import SETTLED, Event, RunState, State, first_state, move, moves
from orchestrator.stores.notices import NewNotice
from orchestrator.stores.reads import Dependent, Duplicate, OtherRequest, Spending
from orchestrator.stores.sql.adoption import others
from orchestrator.stores.sql.attempt_ids import attempt_id_of, number_of, request_id_of
from orchestrator.stores.sql.compression import pack_body, pack_row
from orchestrator.stores.sql.dependents import Settlement, begin_turn, settle_dependents
from orchestrator.stores.sql.notices import add_notices
from orchestrator.stores.sql.stage_store import add_groups, mark_to_pass_on
from orchestrator.stores.sql.transaction import SQL, USAGE, Claimed, Transaction, storable, usage_columns, usage_of
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload
from orchestrator.stores.user_errors import name_taken
from orchestrator.stores.writes import Acceptance, Claim, Counts, Ending, NewRun, Release

__all__ = [
    "accept",
    "accepted_attempt",
    "accepted_request",
    "adapt_run",
    "add_attempt",
    "add_charge",
    "add_counts",
    "add_possible_duplicate",
    "add_progress",
    "add_rows",
    "add_upload",
    "cancel_unsent",
    "claim",
    "claimed_request",
    "create_run",
    "end",
    "ended_request",
    "fail_pending",
    "keep_spec",
    "late_charge",
    "name_response",
    "note_acceptance",
    "note_ending",
    "note_status",
    "refusal_of",
    "release",
    "remember",
    "run_columns",
    "set_run_state",
    "use_upload",
]

# Nothing is reported; twelve-hour writes are a share that old databases do not have, and never null.
_NO_USAGE = (*(None,) * (len(USAGE) - 1), 0)


class _Move(NamedTuple):
    """The one move of an event, with its two states also as they are stored."""

    source: State
    to: State
    stored: tuple[str, str]


def _only_move(event: Event) -> _Move:
    [(source, to)] = moves(event)
    return _Move(source, to, (source.value, to.value))


CLAIM, _RELEASE = map(_only_move, (Event.CLAIM, Event.RELEASE))


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def create_run(tx: Transaction, run: NewRun) -> int:
    """The new run's id."""
    created = tx.execute(SQL["create_run"], run_columns(run)).fetchall()
    if not created:
        raise name_taken(run.name)
    run_id: int = created[0][0]
    tx.execute(SQL["create_total"], {"run_id": run_id})
    return run_id


def run_columns(run: NewRun) -> dict[str, Any]:
    """What is stored of a new run."""
    return {**asdict(run), "day": None if run.day is None else run.day.isoformat()}


def set_run_state(
    tx: Transaction,
    run_id: int,
    state: RunState,
    reason: str | None,
    at: float,
    notices: Sequence[NewNotice],
    resume_at: float | None,
) -> None:
    columns = {"run_id": run_id, "state": state.value, "reason": reason, "at": at, "resume_at": resume_at}
    tx.execute(SQL["set_run_state"], columns)
    add_notices(tx, notices)


def adapt_run(
    tx: Transaction, run_id: int, budget_pusd: Picodollars | None, deadline_at: float | None, input_identity: str
) -> None:
    columns = {"budget_pusd": budget_pusd, "deadline_at": deadline_at, "input_identity": input_identity}
    tx.execute(SQL["adapt_run"], {"run_id": run_id, **columns})


def keep_spec(tx: Transaction, run_id: int, spec_json: str, reopen_plan: bool) -> None:
    tx.execute(SQL["keep_spec"], {"run_id": run_id, "spec_json": spec_json, "reopen_plan": int(reopen_plan)})


def add_counts(tx: Transaction, run_id: int, counts: Counts) -> None:
    totals = tx.totals(run_id)
    totals["polls"] += counts.polls
    totals["rate_limited"] += counts.rate_limited
    totals["elapsed_s"] += counts.elapsed_s


def remember(tx: Transaction, name: str, value: bytes) -> None:
    tx.execute(SQL["remember"], {"name": name, "value": value})


# ── planning ──────────────────────────────────────────────────────────────────────────────────────────────────


def add_rows(
    tx: Transaction,
    run_id: int,
    rows: Sequence[NewRequest],
    skipped: Sequence[SkippedRow],
    mark: PlanMark,
    skip_taken: bool,
    groups: Sequence[NewGroup] = (),
) -> list[NewRequest]:
    """Add rows, skipped rows and the mark; returns the rows whose key belongs to another row.

    If there are such rows and they must not be skipped, nothing is added.
    """
    tx.execute("SAVEPOINT planning")
    before = tx.last_request_id()
    records: list[dict[str, Any]] = [
        {
            "id": request_id,
            "run_id": run_id,
            "stage": row.stage,
            "key": row.key,
            "position": row.position,
            "source": row.where,
            "data": pack_row(row.row),
            "state": first_state(in_chain=row.chain is not None).value,
            "chain": row.chain,
            "place": row.place,
        }
        for request_id, row in enumerate(rows, start=before + 1)
    ]
    added = records
    if tx.execute_many(SQL["add_request"], records) != len(records):
        ids = {request_id for (request_id,) in tx.execute(SQL["requests_after"], {"id": before})}
        added = [record for record in records if record["id"] in ids]
    tx.execute_many(SQL["add_input_row"], added)
    tx.execute_many(SQL["add_chain_turn"], [record for record in added if record["chain"] is not None])
    taken = [] if added is records else _taken(tx, rows, records)
    if taken and not skip_taken:
        tx.execute("ROLLBACK TO planning")
        return taken
    for (stage, state), requests in Counter((record["stage"], record["state"]) for record in added).items():
        tx.moved(run_id, stage, None, State(state), requests)
    if any(row.passes_on for row in rows):
        passing = {(row.stage, row.key) for row in rows if row.passes_on}
        mark_to_pass_on(tx, [each["id"] for each in added if (each["stage"], each["key"]) in passing])
    tx.totals(run_id)["skipped_rows"] += tx.execute_many(
        SQL["add_skipped_row"],
        [
            {"run_id": run_id, "position": row.position, "source": row.where, "reason": row.reason}
            for row in (*skipped, *map(_skipped, taken))
        ],
    )
    tx.execute(
        SQL["move_plan_mark"],
        {
            "run_id": run_id,
            "position": mark.position,
            "complete": int(mark.complete),
            "first_id": added[0]["id"] if added else None,
            "last_id": added[-1]["id"] if added else None,
        },
    )
    add_groups(tx, run_id, groups)
    return taken


def _skipped(row: NewRequest) -> SkippedRow:
    return SkippedRow(position=row.position, where=row.where, reason=f"an earlier row has the key {row.key!r}")


def _taken(tx: Transaction, rows: Sequence[NewRequest], records: Sequence[dict[str, Any]]) -> list[NewRequest]:
    """The rows whose key a row from another position in the input has; the same position means the same row."""
    return [
        row
        for row, record in zip(rows, records, strict=True)
        if tx.execute(SQL["position_of_key"], record).fetchone()[0] != row.position
    ]


# ── the life of an attempt ────────────────────────────────────────────────────────────────────────────────────


def claim(tx: Transaction, claim: Claim) -> int | Spending | Duplicate | list[OtherRequest] | None:
    """The new attempt's id; None if the request is no longer pending; what is spent if that leaves no room.

    Or what this run, or others, have of the same request.
    """
    refusal = refusal_of(tx, claim)
    if refusal is None:
        moved = tx.execute(SQL["claim_request"], claimed_request(claim)).rowcount
        return add_attempt(tx, claim) if moved else None
    if isinstance(refusal, Spending):
        return refusal
    pending = tx.execute(SQL["is_in_state"], (claim.request_id, CLAIM.source.value)).fetchone()
    return refusal if pending else None


def refusal_of(tx: Transaction, claim: Claim) -> Spending | Duplicate | list[OtherRequest] | None:
    """Why a claim must not be made; None if it may."""
    if claim.asks_once and claim.fingerprint is not None:
        tx.alone("claims")
        earlier = tx.execute(SQL["earlier_duplicate"], (claim.fingerprint, claim.run_id, claim.request_id)).fetchone()
        if earlier is not None:
            return Duplicate(earlier[0], here=True)
    if claim.others_since is not None and claim.fingerprint is not None:
        tx.alone("claims")
        found = others(tx.execute, claim.run_id, claim.fingerprint, claim.others_since)
        if found:
            return found
    if claim.caps is not None:
        tx.alone("claims")
        spent = tx.spending(claim.caps, claim.at)
        if not spent.has_room(claim.caps, claim.worst_case_pusd or 0):
            return spent
    return None


def claimed_request(claim: Claim) -> tuple[Any, ...]:
    """What the statement ``claim_request`` takes."""
    return (claim.request_id, claim.run_id, claim.stage, claim.number, claim.fingerprint, *CLAIM.stored)


def add_attempt(tx: Transaction, claim: Claim) -> int:
    """Write the attempt of a request that has been claimed."""
    attempt_id = attempt_id_of(claim.request_id, claim.number)
    tx.later(
        SQL["add_attempt"],
        (
            attempt_id,
            claim.idempotency_key,
            claim.model,
            claim.service_tier,
            claim.window,
            claim.worst_case_pusd,
            claim.metadata,
            claim.at,
            claim.lane.value,
            claim.endpoint,
        ),
    )
    tx.note_claim(claim.request_id, Claimed(claim.run_id, claim.stage, claim.worst_case_pusd))
    tx.moved(claim.run_id, claim.stage, CLAIM.source, CLAIM.to)
    tx.happened(claim.run_id, claim.at)
    totals = tx.totals(claim.run_id)
    totals["attempts"] += 1
    totals["reserved_pusd"] += claim.worst_case_pusd or 0
    return attempt_id


def accept(tx: Transaction, acceptance: Acceptance) -> bool:
    if not tx.execute(SQL["accept_request"], accepted_request(acceptance)).rowcount:
        return False
    held = not tx.execute(SQL["accept_attempt"], accepted_attempt(acceptance)).rowcount
    return note_acceptance(tx, acceptance, held=held)


def accepted_request(acceptance: Acceptance) -> tuple[Any, ...]:
    """What the statement ``accept_request`` takes."""
    request = (acceptance.request_id, number_of(acceptance.attempt_id))
    return (*request, acceptance.from_state.value, acceptance.to.value)


def accepted_attempt(acceptance: Acceptance) -> tuple[Any, ...]:
    """What the statement ``accept_attempt`` takes."""
    return (acceptance.attempt_id, acceptance.response_id, acceptance.status, acceptance.at)


def note_acceptance(tx: Transaction, acceptance: Acceptance, *, held: bool) -> bool:
    """Finish the acceptance of a request that has been moved; ``held``: another attempt has the response."""
    request_id, response_id = acceptance.request_id, acceptance.response_id
    claimed = tx.claimed(request_id)
    run_id, stage, source, to = claimed.run_id, claimed.stage, acceptance.from_state, acceptance.to
    if held:
        [held_by] = tx.execute(SQL["holder"], (response_id,)).fetchone()
        if request_id_of(held_by) != request_id and not acceptance.adopted:
            request = (request_id, number_of(acceptance.attempt_id))
            tx.execute(SQL["accept_request"], (*request, to.value, source.value))
            return False
        tx.execute(SQL["share_response"], accepted_attempt(acceptance))
    tx.note_claim(request_id, Claimed(run_id, stage, claimed.worst_case_pusd, response_id, held))
    tx.moved(run_id, stage, source, to)
    tx.happened(run_id, acceptance.at)
    return True


def release(tx: Transaction, release: Release) -> bool:
    request = (release.request_id, number_of(release.attempt_id), release.not_before)
    moved = tx.execute(SQL["release_request"], request + _RELEASE.stored).fetchall()
    if not moved:
        return False
    removed = tx.execute(SQL["remove_attempt"], {"attempt_id": release.attempt_id}).fetchall()
    run_id, stage = moved[0]
    tx.note_claim(release.request_id, None)
    tx.moved(run_id, stage, _RELEASE.source, _RELEASE.to)
    totals = tx.totals(run_id)
    totals["attempts"] -= 1
    totals["reserved_pusd"] -= sum(worst_case_pusd or 0 for (worst_case_pusd,) in removed)
    totals["rate_limited"] += release.rate_limited
    return True


def end(tx: Transaction, ending: Ending) -> list[Dependent] | None:
    moved = tx.execute(SQL["end_request"], ended_request(ending)).rowcount
    return note_ending(tx, ending) if moved else None


def ended_request(ending: Ending) -> tuple[Any, ...]:
    """What the statement ``end_request`` takes."""
    to = ending.to
    pending, settled = to is State.PENDING, to in SETTLED
    return (
        ending.request_id,
        number_of(ending.attempt_id),
        ending.from_state.value,
        to.value,
        # 0 would mean "never put off", and the reader of fresh requests is past this one.
        max(ending.not_before, ending.at) if pending else 0.0,
        int(ending.count_attempt and ending.event is not Event.LOSE),
        int(ending.renew_idempotency),
        ending.max_output_tokens,
        None if pending else ending.code,
        None if pending else storable(ending.message),
        ending.at if settled else None,
    )


def note_ending(tx: Transaction, ending: Ending) -> list[Dependent]:
    """Write all else that belongs to the end of an attempt whose request has been moved."""
    to = ending.to
    claimed = tx.claimed(ending.request_id)
    if ending.response_id is not None and claimed.response_id is None:
        claimed = _name_response(tx, claimed, ending.attempt_id, ending.response_id)
    run_id = claimed.run_id
    tx.note_claim(ending.request_id, None)
    tx.moved(run_id, claimed.stage, ending.from_state, to)
    tx.happened(run_id, ending.at)
    _end_attempt(tx, claimed, ending)
    if ending.continuation is not None:
        begin_turn(tx, ending.request_id, ending.continuation)
    attempt_id = ending.attempt_id
    if claimed.adopted:
        attempt_id = _end_holder(tx, claimed, ending)
    else:
        _add_result(tx, attempt_id, claimed, ending)
    if to not in SETTLED:
        return []
    settlement = Settlement(ending.event, ending.at, attempt_id, ending.code, storable(ending.message))
    return settle_dependents(tx, run_id, ending.request_id, settlement)


def _name_response(tx: Transaction, claimed: Claimed, attempt_id: int, response_id: str) -> Claimed:
    """Give an attempt the id of its response; one that another attempt holds is shared, and charged there."""
    named = (attempt_id, response_id)
    shares = not tx.execute(SQL["name_response"], named).rowcount
    if shares:
        tx.execute(SQL["share_named"], named)
    return Claimed(claimed.run_id, claimed.stage, claimed.worst_case_pusd, response_id, shares)


def _add_result(tx: Transaction, attempt_id: int, claimed: Claimed, ending: Ending) -> None:
    if ending.body is not None or ending.output_text:
        text = storable(ending.output_text)
        packed = None if ending.body is None else pack_body(ending.body, text, claimed.response_id)
        tx.later(SQL["add_result"], (attempt_id, text, packed))


def _end_holder(tx: Transaction, claimed: Claimed, ending: Ending) -> int:
    """End the attempt of another run that asked for an adopted response; returns the attempt that has the answer."""
    holder_id, run_id, worst_case_pusd, ended_at = tx.execute(SQL["holder_of"], (claimed.response_id,)).fetchone()
    if ended_at is not None:
        _add_result(tx, ending.attempt_id, claimed, ending)
        return ending.attempt_id
    holder = Claimed(run_id, "", worst_case_pusd, claimed.response_id)
    _end_attempt(tx, holder, replace(ending, attempt_id=holder_id))
    _add_result(tx, holder_id, claimed, ending)
    tx.happened(run_id, ending.at)
    if ending.event is Event.SUCCEED:
        tx.execute(SQL["answer_by"], (ending.request_id, holder_id))
        tx.totals(claimed.run_id)["reused"] += 1
        return int(holder_id)
    _add_result(tx, ending.attempt_id, claimed, ending)
    return ending.attempt_id


def _end_attempt(tx: Transaction, claimed: Claimed, ending: Ending) -> None:
    doubted = ending.event is Event.LOSE
    possible_duplicate = ending.possible_duplicate and not doubted
    tx.later(
        SQL["end_attempt"],
        (
            ending.attempt_id,
            ending.status,
            ending.http_status,
            ending.model,
            ending.service_tier,
            ending.completed_at,
            None if doubted else ending.at,
            ending.code,
            storable(ending.message),
            int(ending.count_attempt or doubted),
            int(possible_duplicate),
        ),
    )
    if not doubted:
        tx.totals(claimed.run_id)["reserved_pusd"] -= claimed.worst_case_pusd or 0
    if possible_duplicate:
        add_possible_duplicate(tx, claimed.run_id, claimed.worst_case_pusd)
    if ending.charge is not None and not claimed.shares:
        if claimed.response_id is None and ending.charge.cost_pusd is not None:
            raise ValueError("a charge of known cost needs a response id")
        add_charge(tx, claimed.run_id, ending.attempt_id, ending.charge, at=ending.at)


def fail_pending(tx: Transaction, request_id: int, code: str, message: str, at: float) -> list[Dependent] | None:
    return _settle_unsent(tx, request_id, State.PENDING, Settlement(Event.FAIL, at, None, code, storable(message)))


def cancel_unsent(tx: Transaction, request_id: int, at: float) -> list[Dependent] | None:
    cancelled = Settlement(Event.CANCEL, at, None, "cancelled")
    for source in (State.PENDING, State.BLOCKED):
        moved = _settle_unsent(tx, request_id, source, cancelled)
        if moved is not None:
            return moved
    return None


def _settle_unsent(tx: Transaction, request_id: int, source: State, settled: Settlement) -> list[Dependent] | None:
    """Settle a request that has no open attempt; None if it is not in the source state."""
    to = move(source, settled.event)
    states = {"from_state": source.value, "to_state": to.value}
    moved = tx.execute(
        SQL["settle_unsent"],
        {"request_id": request_id, "code": settled.code, "message": settled.message, "at": settled.at, **states},
    ).fetchall()
    if not moved:
        return None
    run_id, stage = moved[0]
    tx.moved(run_id, stage, source, to)
    return settle_dependents(tx, run_id, request_id, settled)


def note_status(tx: Transaction, attempt_id: int, status: str) -> None:
    tx.later(SQL["note_status"], {"attempt_id": attempt_id, "status": status})


# ── uploads and stream events ─────────────────────────────────────────────────────────────────────────────────


def add_upload(tx: Transaction, upload: Upload, run_id: int) -> None:
    tx.execute(SQL["add_upload"], asdict(upload))
    use_upload(tx, upload.file_id, run_id)


def use_upload(tx: Transaction, file_id: str, run_id: int) -> None:
    tx.execute(SQL["use_upload"], {"file_id": file_id, "run_id": run_id})


def add_progress(tx: Transaction, attempt_id: int, events: Sequence[ProgressEvent]) -> None:
    tx.execute_many(SQL["add_progress"], [{"attempt_id": attempt_id, **asdict(event)} for event in events])


# ── charges ───────────────────────────────────────────────────────────────────────────────────────────────────


def add_charge(tx: Transaction, run_id: int, attempt_id: int, charge: Charge, *, at: float) -> None:
    """Charge an attempt that has no charge yet."""
    tx.later(SQL["add_charge"], (*_charge_columns(tx, attempt_id, charge), at))
    tx.charged(run_id, charge, at=at)


def name_response(tx: Transaction, attempt_id: int, response_id: str) -> bool:
    return bool(tx.execute(SQL["name_lost_response"], (attempt_id, response_id)).rowcount)


def late_charge(tx: Transaction, attempt_id: int, charge: Charge, status: str, body: bytes | None) -> bool:
    found = tx.execute(SQL["charge_so_far"], {"attempt_id": attempt_id}).fetchone()
    if found is None:
        return False
    run_id, at, shared, possible_duplicate, charged, cost_pusd, upper_bound_pusd, *usage = found
    if shared or cost_pusd is not None:
        return False
    if charged is None:
        add_charge(tx, run_id, attempt_id, charge, at=at)
    else:
        before = Charge(usage=usage_of(tuple(usage)), cost_pusd=None, upper_bound_pusd=upper_bound_pusd, price=None)
        tx.charged(run_id, before, at=at, sign=-1)
        if possible_duplicate:
            _bound_duplicate(tx, run_id, upper_bound_pusd, sign=-1)
            if charge.cost_pusd is None:
                _bound_duplicate(tx, run_id, charge.upper_bound_pusd)
        tx.execute(SQL["replace_charge"], _charge_columns(tx, attempt_id, charge))
        tx.charged(run_id, charge, at=at)
    tx.execute(SQL["set_status"], {"attempt_id": attempt_id, "status": status})
    if body is not None:
        tx.execute(SQL["replace_body"], {"attempt_id": attempt_id, "body": pack_body(body, None, None)})
    return True


def _charge_columns(tx: Transaction, attempt_id: int, charge: Charge) -> tuple[int | None, ...]:
    usage, tool_use = charge.usage, charge.tool_use
    return (
        attempt_id,
        charge.cost_pusd,
        charge.upper_bound_pusd,
        tx.price_id(charge.price),
        *(_NO_USAGE if usage is None else usage_columns(usage)),
        tool_use.web_searches,
        tool_use.file_searches,
        tool_use.code_sessions,
        tool_use.image_input_tokens,
        tool_use.image_output_tokens,
        charge.image_pusd,
        int(charge.estimated),
    )


def add_possible_duplicate(tx: Transaction, run_id: int, worst_case_pusd: Picodollars | None) -> None:
    """Count an attempt whose response may exist, with an unknown id, while its request is sent again."""
    tx.totals(run_id)["possible_duplicates"] += 1
    _bound_duplicate(tx, run_id, worst_case_pusd)


def _bound_duplicate(tx: Transaction, run_id: int, bound_pusd: Picodollars | None, *, sign: int = 1) -> None:
    if bound_pusd is None:
        tx.totals(run_id)["possible_duplicates_unbounded"] += sign
    else:
        tx.totals(run_id)["possible_duplicates_upper_bound_pusd"] += sign * bound_pusd
