"""What becomes of a response that could be read: the first row that matches decides.

A call that went well says little: failure, a cut-off answer and an empty one all come under HTTP 200
(responses API, "the response object" and trouble T3, T6, T20).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.core.errors import CODES
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Response
from orchestrator.policy.errors.verdicts import (
    CallTools,
    Cancelled,
    Continue,
    Fail,
    PollAgain,
    ResponseVerdict,
    Retry,
    Succeed,
)

__all__ = ["OUTCOMES", "OnIncomplete", "OnInvalid", "Outcome", "RaiseTo", "Repair", "Wish"]


@dataclass(frozen=True, slots=True)
class RaiseTo:
    """Ask again with this ``max_output_tokens`` where the answer was cut off."""

    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Repair:
    """Tell the model what is wrong with its answer, so often at most."""

    at_most: int = 1


OnIncomplete: TypeAlias = Literal["fail", "keep"] | RaiseTo
OnInvalid: TypeAlias = Literal["fail", "retry"] | Repair


@fast_dataclass
class Wish:
    """What the job wants of an answer, the ``max_output_tokens`` that this one was asked for with, and its flaw.

    ``structured`` says that it must be JSON; ``flaw`` is what keeps a complete one from being the JSON asked for.
    ``repairs`` counts how often the model was asked to mend it.
    """

    on_incomplete: OnIncomplete = "fail"
    max_output_tokens: int | None = None
    structured: bool = False
    flaw: str | None = None
    on_invalid: OnInvalid = "fail"
    repairs: int = 0
    # Whether the job names handlers for its function tools.
    handles_tools: bool = False


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


def _is_flawed(response: Response, wish: Wish) -> bool:
    return wish.flaw is not None and response.status == "completed" and _has_text(response)


def _can_repair(wish: Wish) -> bool:
    return isinstance(wish.on_invalid, Repair) and wish.repairs < wish.on_invalid.at_most


def _mended(_: Response, wish: Wish) -> ResponseVerdict:
    text = f"Your answer is not valid: {wish.flaw}. Give the whole answer again, mended, as JSON and nothing else."
    item = {"type": "message", "role": "user", "content": text}
    return Continue("output_invalid", (item,), _flaw(wish))


def _flaw(wish: Wish) -> str:
    return f"{CODES['output_invalid']}: {wish.flaw}"


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
        name="tool-calls",
        when="status completed, with function calls and nothing else that waits; the job has handlers",
        then="run the handlers, then go on",
        why="The answer comes after the tools' outputs.",
        matches=lambda response, wish: (
            response.status == "completed" and response.waits_for == "function_call" and wish.handles_tools
        ),
        verdict=lambda *_: CallTools(),
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
        name="repair",
        when="status completed, with text that is not the JSON asked for; the job asks to repair it, and may again",
        then="go on from it, with what is wrong",
        why="The model mends what it has before it more cheaply than it makes it anew.",
        matches=lambda response, wish: _is_flawed(response, wish) and _can_repair(wish),
        verdict=_mended,
    ),
    Outcome(
        name="ask-anew",
        when="status completed, with text that is not the JSON asked for; the job asks to retry",
        then="retry output_invalid",
        why="Another try may come out right.",
        matches=lambda response, wish: _is_flawed(response, wish) and wish.on_invalid == "retry",
        verdict=lambda _, wish: Retry("output_invalid", message=_flaw(wish), base_s=0.0),
    ),
    Outcome(
        name="invalid",
        when="status completed, with text that is not the JSON asked for",
        then="fail output_invalid",
        why="Whoever reads the results relies on their shape.",
        matches=_is_flawed,
        verdict=lambda _, wish: Fail("output_invalid", _flaw(wish)),
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
        verdict=lambda *_: PollAgain(),
    ),
)
