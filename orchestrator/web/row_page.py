"""The page of one row: what was sent and what came back, its timeline and its charge, and the rows beside it."""

from __future__ import annotations

import shlex
from typing import Any

import orjson
from starlette.requests import Request

from orchestrator.core import exact_json
from orchestrator.core.errors import CODES, OrchestratorError, RunNotFound
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.money import format_usd
from orchestrator.core.states import SETTLED, State
from orchestrator.report.request_history import history_object
from orchestrator.stores.reads import AttemptRecord, Run
from orchestrator.stores.request_history import RequestHistory
from orchestrator.stores.row_pages import RowPlace
from orchestrator.web.charge_parts import charge_parts
from orchestrator.web.page_addresses import filter_of, kept_fields, path_of_row, path_of_run, query_of
from orchestrator.web.page_context import SEARCH_S, PageContext
from orchestrator.web.prompt_parts import SHOWN_CHARACTERS, prompt_parts, text_object
from orchestrator.web.run_pages import head_of

__all__ = ["answer_of", "history_named", "row_page"]

# Of rows before another one; counting more takes longer than a page may.
_MOST_COUNTED = 10_000


async def row_page(view: PageContext, request: Request) -> dict[str, Any]:
    """One row; ``history`` is the object of ``show --json``."""
    run = await view.run_of(request)
    history = await history_named(view, run, request)
    sent = await _sent(view, run, history)
    kept = kept_fields(request.query_params)
    found = await _neighbors(view, run, history, request)
    record = history.request
    flagged = await _flag(view, run, history)
    now = view.browser.clock.now()
    own = {"key": record.key, "of": None if record.stage == MAIN_STAGE else record.stage}
    whole = path_of_run(run, "answer") + query_of(own)
    return {
        **head_of(run),
        "history": history_object(history, sent),
        "meaning": CODES.get(record.code or ""),
        "prompt": prompt_parts(sent) if sent is not None else [],
        "input_row": _readable(exact_json.loads(record.row) if record.row else None),
        "answer": _answer_object(answer_of(history), whole),
        "raw": _raw(history),
        "attempts": [_attempt_object(each, record.settled_at or now) for each in history.attempts],
        "flag": flagged,
        "queue": await _queue(view, run, history),
        "most_counted": _MOST_COUNTED,
        "cost_usd": _cost(history),
        "filter": kept,
        "list": path_of_run(run, "rows") + query_of({**kept, "after": str(max(0, record.id - 1))}),
        "previous": found[0],
        "next": found[1],
        "request": record.id,
        "command": shlex.join(["orchestrator", "show", run.name, record.key, "--db", view.browser.database]),
    }


async def history_named(view: PageContext, run: Run, request: Request) -> RequestHistory:
    """The row that an address names: by key, in the path or in the query, or by the number of its request."""
    fields = request.query_params
    key, stage = request.path_params.get("key", fields.get("key")), fields.get("of")
    number = fields.get("request", "")
    if key is None and number.isascii() and number.isdigit() and len(number) <= 18:
        named = await view.browser.quick.row_name(run.id, int(number))
        if named is not None:
            return await view.browser.history(run, *named)
    if key is None:
        raise RunNotFound(f"run {run.name!r} has no such row")
    stages = [stage] if stage else list(await view.browser.quick.stage_tally(run.id))
    for each in stages[:-1]:
        if await view.browser.quick.request(run.id, key, stage=each) is not None:
            return await view.browser.history(run, each, key)
    return await view.browser.history(run, stages[-1] if stages else MAIN_STAGE, key)


def answer_of(history: RequestHistory) -> str | None:
    """The answer of a row, or of the attempt that came furthest."""
    return next((each.output_text for each in reversed(history.responses) if each.output_text), None)


async def _sent(view: PageContext, run: Run, history: RequestHistory) -> dict[str, Any] | None:
    try:
        return await view.browser.request_sent(run, history)
    except (OrchestratorError, ValueError):
        # A job whose files or modules are elsewhere, or of another version; the row is there all the same.
        return None


async def _neighbors(
    view: PageContext, run: Run, history: RequestHistory, request: Request
) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """The rows before and after this one that fit the filter of the list."""
    chosen, kept = filter_of(request.query_params), kept_fields(request.query_params)
    found = []
    for backward in (True, False):
        place = RowPlace(request_id=history.request.id, backward=backward)
        page = await view.browser.quick.row_page(run.id, chosen, place, limit=1, within_s=SEARCH_S / 2)
        if page.rows:
            found.append({"key": page.rows[0].key, "page": path_of_row(run, page.rows[0], kept)})
        elif page.searched_to is not None:
            way = {"before" if backward else "after": str(page.searched_to)}
            found.append({"key": "search on", "page": path_of_run(run, "rows") + query_of({**kept, **way})})
        else:
            found.append({})
    return found[0] or None, found[1] or None


async def _queue(view: PageContext, run: Run, history: RequestHistory) -> int | None:
    """How many rows are sent before this one; None if it does not wait in the queue."""
    record = history.request
    if record.state is not State.PENDING:
        return None
    return await view.browser.quick.before_in_queue(run.id, record.stage, record.id, most=_MOST_COUNTED)


async def _flag(view: PageContext, run: Run, history: RequestHistory) -> dict[str, Any]:
    place = RowPlace(request_id=history.request.id - 1)
    page = await view.browser.quick.row_page(run.id, filter_of({}), place, limit=1, within_s=SEARCH_S)
    record = page.rows[0]
    return {
        "flag": record.flag,
        "note": record.note,
        "known": sorted({"good", "bad", "check", *await view.browser.quick.flags_of_run(run.id)}),
    }


def _readable(value: Any) -> dict[str, Any] | None:
    return None if value is None else text_object(exact_json.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _answer_object(answer: str | None, whole: str) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {**text_object(_indented(answer)), "page": whole}


def _indented(answer: str) -> str:
    """An answer that is an object or a list is easier to read with line breaks."""
    if answer.lstrip()[:1] not in ("{", "[") or len(answer) > SHOWN_CHARACTERS:
        return answer
    try:
        return exact_json.dumps(exact_json.loads(answer.encode()), option=orjson.OPT_INDENT_2).decode()
    except (ValueError, TypeError, RecursionError):
        return answer


def _raw(history: RequestHistory) -> dict[str, Any] | None:
    body = next((each.body for each in reversed(history.responses) if each.body is not None), None)
    return None if body is None else text_object(body.decode("utf-8", "replace"))


def _cost(history: RequestHistory) -> str | None:
    """What all attempts cost; None if one of them is not known, or still open."""
    costs = [each.charge.cost_pusd for each in history.attempts if each.charge is not None]
    is_open = history.request.state not in SETTLED and any(each.ended_at is None for each in history.attempts)
    return None if is_open or None in costs else format_usd(sum(cost for cost in costs if cost is not None))


def _attempt_object(attempt: AttemptRecord, until: float) -> dict[str, Any]:
    """An attempt with its phases in seconds, and what its charge is made of."""
    end = attempt.ended_at if attempt.ended_at is not None else until
    marks = [("sent", attempt.sent_at), ("accepted", attempt.accepted_at), ("completed", attempt.completed_at)]
    known = [(name, at) for name, at in marks if at is not None and attempt.sent_at <= at <= end]
    phases = [
        {"after": name, "seconds": max(0.0, following - at)}
        for (name, at), following in zip(known, [*(at for _, at in known[1:]), end], strict=True)
    ]
    parts = charge_parts(attempt.charge) if attempt.charge is not None else []
    return {
        "number": attempt.number,
        "is_open": attempt.ended_at is None,
        "seconds": max(0.0, end - attempt.sent_at),
        "phases": phases,
        "parts": [
            {
                "what": each.what,
                "count": each.count,
                "unit_usd": format_usd(each.unit_pusd),
                "usd": format_usd(each.pusd),
            }
            for each in parts
        ],
        "sum_usd": format_usd(sum(each.pusd for each in parts)) if parts else None,
        "page_of_response": attempt.response_id,
    }
