"""What becomes of a response that could be read: the first row that matches decides.

A call that went well says little: failure, a cut-off answer and an empty one all come under HTTP 200
(responses API, "the response object" and trouble T3, T6, T20).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.core.errors import CODES
from orchestrator.core.model import Response
from orchestrator.policy.verdicts import Cancelled, Fail, Look, ResponseVerdict, Retry, Succeed

__all__ = ["OUTCOMES", "OnIncomplete", "Outcome", "RaiseTo", "Wish"]


@dataclass(frozen=True, slots=True)
class RaiseTo:
    """Ask again with this ``max_output_tokens`` where the answer was cut off."""

    max_output_tokens: int


OnIncomplete: TypeAlias = Literal["fail", "keep"] | RaiseTo


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the job wants of an answer, and the ``max_output_tokens`` that this one was asked for with."""

    on_incomplete: OnIncomplete = "fail"
    max_output_tokens: int | None = None
    structured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row: ``when`` and ``then`` say in words what ``matches`` and ``verdict`` do."""

    name: str
    when: str
    then: str
    why: str
    matches: Callable[[Response, Wish], bool]
    verdict: Callable[[Response, Wish], ResponseVerdict]


# The same thing by the names that servers give it (responses API, ``incomplete_details.reason``).
_CUT_OFF = frozenset({"max_output_tokens", "max_tokens", "length"})


def _ours(code: str) -> Fail:
    return Fail(code, CODES[code])


def _is_cut_off(response: Response) -> bool:
    return response.status == "incomplete" and response.incomplete_reason in _CUT_OFF


def _has_text(response: Response) -> bool:
    return bool(response.output_text.strip())


def _can_raise(wish: Wish) -> bool:
    """Whether more room was asked for and not yet given; where the room is not known, it was not."""
    raised = wish.on_incomplete
    return isinstance(raised, RaiseTo) and (wish.max_output_tokens or 0) < raised.max_output_tokens


def _with_more_room(_: Response, wish: Wish) -> ResponseVerdict:
    raised = wish.on_incomplete
    room = raised.max_output_tokens if isinstance(raised, RaiseTo) else None
    return Retry("max_output_tokens", message=CODES["max_output_tokens"], base_s=0.0, max_output_tokens=room)


def _unfinished(response: Response, _: Wish) -> ResponseVerdict:
    if _is_cut_off(response):
        return _ours("max_output_tokens")
    reason = response.incomplete_reason or "incomplete"
    return Fail(reason, response.error_message or f"the response is incomplete: {reason}")


OUTCOMES: tuple[Outcome, ...] = (
    Outcome(
        name="cancelled",
        when="status cancelled",
        then="cancelled, or tried again where we cancelled it as overdue",
        why="Somebody stopped it on purpose; to send it again would defy them.",
        matches=lambda response, _: response.status == "cancelled",
        verdict=lambda *_: Cancelled(),
    ),
    Outcome(
        name="content-filter",
        when="status incomplete, reason content_filter",
        then="fail content_filter",
        why="The same input would be filtered again.",
        matches=lambda response, _: (
            response.status == "incomplete" and response.incomplete_reason == "content_filter"
        ),
        verdict=lambda *_: _ours("content_filter"),
    ),
    Outcome(
        name="refusal",
        when="status completed or incomplete, with a refusal in the message",
        then="fail refusal",
        why="The model declined; the call went well and is charged.",
        matches=lambda response, _: response.status in {"completed", "incomplete"} and response.refusal is not None,
        verdict=lambda response, _: Fail("refusal", response.refusal or CODES["refusal"]),
    ),
    Outcome(
        name="requires-action",
        when="status completed, with a call or an approval that nobody has answered",
        then="fail requires_action",
        why="It merely stopped: the answer would have come after the tool's output.",
        matches=lambda response, _: response.status == "completed" and response.waits_for is not None,
        verdict=lambda response, _: Fail(
            "requires_action", f"the response waits for the output of {response.waits_for}"
        ),
    ),
    Outcome(
        name="answered",
        when="status completed, with text",
        then="succeed",
        why="An answer.",
        matches=lambda response, _: response.status == "completed" and _has_text(response),
        verdict=lambda *_: Succeed(),
    ),
    Outcome(
        name="empty",
        when="status completed, without text",
        then="fail empty_output",
        why="Nothing but reasoning, or nothing at all, although it is charged: no answer.",
        matches=lambda response, _: response.status == "completed",
        verdict=lambda *_: _ours("empty_output"),
    ),
    Outcome(
        name="more-room",
        when="status incomplete at max_output_tokens; the job asks to raise it, and that was not done yet",
        then="retry with more room",
        why="Once: with the larger number in place, a second time is a failure.",
        matches=lambda response, wish: _is_cut_off(response) and _can_raise(wish),
        verdict=_with_more_room,
    ),
    Outcome(
        name="kept",
        when="status incomplete, with text; the job asks to keep it, and not for JSON",
        then="succeed, marked as partial",
        why="The job wants what there is; half of a JSON value is nothing.",
        matches=lambda response, wish: (
            response.status == "incomplete"
            and wish.on_incomplete == "keep"
            and not wish.structured
            and _has_text(response)
        ),
        verdict=lambda *_: Succeed(partial=True),
    ),
    Outcome(
        name="nothing-to-keep",
        when="status incomplete, without text; the job asks to keep it",
        then="fail empty_output",
        why="All the room went into reasoning.",
        matches=lambda response, wish: (
            response.status == "incomplete" and wish.on_incomplete == "keep" and not _has_text(response)
        ),
        verdict=lambda *_: _ours("empty_output"),
    ),
    Outcome(
        name="incomplete",
        when="status incomplete",
        then="fail max_output_tokens, or with the provider's own reason",
        why="Half an answer is none unless the job says so.",
        matches=lambda response, _: response.status == "incomplete",
        verdict=_unfinished,
    ),
    Outcome(
        name="open",
        when="status queued, in_progress, or a word that is not known",
        then="look again",
        why="An unknown status never ends a response; its deadline does.",
        matches=lambda *_: True,
        verdict=lambda *_: Look(),
    ),
)
