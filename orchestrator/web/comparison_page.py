"""The page that compares two runs: the same keys side by side, and which words of the answers differ."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from orchestrator.core.errors import UsageError
from orchestrator.core.money import format_usd
from orchestrator.stores.reads import ResultRecord, Run
from orchestrator.stores.row_pages import COMPARED_CHARACTERS, ComparedRows, Differing
from orchestrator.web.page_addresses import path_of_row, place_of, query_of
from orchestrator.web.page_context import SEARCH_S, PageContext
from orchestrator.web.row_listing import record_object
from orchestrator.web.run_pages import head_of
from orchestrator.web.word_diff import word_diff

__all__ = ["comparison_page"]

_PAIRS = 10
_CHOICE = 200


async def comparison_page(view: PageContext, request: Request) -> dict[str, Any]:
    """Rows of the run ``a`` beside those of the run ``b``; without ``b``, the runs there are to choose from."""
    fields = request.query_params
    one = await view.run_named(fields.get("a") or "")
    if not fields.get("b"):
        return {**_choice(one), "choice": await _others(view, one)}
    other = await view.run_named(fields["b"])
    differing = _differing(fields.get("only"))
    place = place_of(fields)
    page = await view.browser.quick.comparison_page(
        (one.id, other.id), differing, place, limit=_PAIRS, within_s=SEARCH_S
    )
    kept = {"a": fields["a"], "b": fields["b"], "only": differing.value}
    rows = list(page.rows)
    first = rows[0].one.request_id if rows and page.more_before else None
    last = page.searched_to or (rows[-1].one.request_id if rows and page.more_after else None)
    return {
        **_choice(one),
        "choice": None,
        "a": {**head_of(one, await view.browser.summary(one)), "named": fields["a"]},
        "b": {**head_of(other, await view.browser.summary(other)), "named": fields["b"]},
        "only": differing.value,
        "kinds": [each.value for each in Differing],
        "rows": [_pair(each, one, other) for each in rows],
        "earlier": query_of({**kept, "before": str(first)}) if first else None,
        "later": query_of({**kept, "after": str(last)}) if last else None,
        "searched_to": page.searched_to,
        "swapped": query_of({**kept, "a": kept["b"], "b": kept["a"]}),
    }


def _choice(one: Run) -> dict[str, Any]:
    return head_of(one)


async def _others(view: PageContext, one: Run) -> list[dict[str, Any]]:
    found = await view.browser.runs(before_id=None, limit=_CHOICE)
    same_job_first = sorted(found, key=lambda each: (each.run.job != one.job, -each.run.id))
    return [
        {"run": each.run.name, "job": each.run.job, "created_at": each.run.created_at}
        for each in same_job_first
        if each.run.id != one.id
    ]


def _differing(text: str | None) -> Differing:
    try:
        return Differing(text or Differing.ALL)
    except ValueError:
        known = ", ".join(Differing)
        raise UsageError(f"only={text!r} is not known", hint=f"one of {known}") from None


def _pair(pair: ComparedRows, one: Run, other: Run) -> dict[str, Any]:
    ours, theirs = pair.one, pair.other
    return {
        "key": ours.key,
        "a": _side(ours, one),
        "b": None if theirs is None else _side(theirs, other),
        "pieces": _pieces(ours, theirs),
        "cost_usd": None if theirs is None else _less(theirs.cost_pusd, ours.cost_pusd),
        "tokens": None if theirs is None else _more_tokens(ours, theirs),
    }


def _side(record: ResultRecord, run: Run) -> dict[str, Any]:
    return {
        **record_object(record),
        "text": record.output_text or "",
        "is_cut": len(record.output_text or "") == COMPARED_CHARACTERS,
        "page": path_of_row(run, record),
    }


def _pieces(ours: ResultRecord, theirs: ResultRecord | None) -> dict[str, Any] | None:
    """The pieces of both answers; None if there is nothing to compare."""
    if theirs is None or not ours.output_text or not theirs.output_text:
        return None
    found = word_diff(ours.output_text, theirs.output_text)
    return None if found is None else {"a": found[0], "b": found[1]}


def _less(later: int | None, earlier: int | None) -> str | None:
    return None if later is None or earlier is None else format_usd(later - earlier)


def _more_tokens(ours: ResultRecord, theirs: ResultRecord) -> int | None:
    if ours.usage is None or theirs.usage is None:
        return None
    return theirs.usage.total_tokens - ours.usage.total_tokens
