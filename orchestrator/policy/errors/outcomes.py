"""How a readable response ends its request: the first row that matches decides.

A successful call says little: a failure, a cut-off answer and an empty one all come with HTTP 200
(responses API, "the response object" and trouble T3, T6, T20).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from orchestrator.core.errors import CODES
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Response
from orchestrator.policy.errors.answer_schema import AnswerSchema
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

__all__ = ["OUTCOMES", "AnswerPolicy", "Expectation", "OnIncomplete", "OnInvalid", "Outcome", "RaiseTo", "Repair"]


@fast_dataclass(kw_only=False)
class RaiseTo:
    """Send the request again with this ``max_output_tokens`` if the answer was cut off."""

    max_output_tokens: int


@fast_dataclass(kw_only=False)
class Repair:
    """Ask the model to correct its answer, at most so many times."""

    at_most: int = 1


OnIncomplete: TypeAlias = Literal["fail", "keep"] | RaiseTo
OnInvalid: TypeAlias = Literal["fail", "retry"] | Repair


@fast_dataclass
class AnswerPolicy:
    """What a job accepts as an answer, and what to do about other answers.

    Answers must fit ``schema`` if the job asks for JSON. ``handles_tools`` says that the job has handlers for its
    function tools.
    """

    on_incomplete: OnIncomplete = "fail"
    schema: AnswerSchema | None = None
    on_invalid: OnInvalid = "fail"
    handles_tools: bool = False


@fast_dataclass(kw_only=False)
class Expectation:
    """What is expected of one response, and what is wrong with it.

    ``max_output_tokens`` is what it was requested with, ``repairs`` counts how often the model was asked to correct
    it, and ``flaw`` says why a complete answer does not fit the schema.
    """

    policy: AnswerPolicy = AnswerPolicy()
    max_output_tokens: int | None = None
    repairs: int = 0
    flaw: str | None = None


@fast_dataclass
class Outcome:
    """One row: ``when`` and ``then`` describe in words what ``matches`` and ``verdict`` do."""

    name: str
    when: str
    then: str
    why: str
    matches: Callable[[Response, Expectation], bool]
    verdict: Callable[[Response, Expectation], ResponseVerdict]


# The same reason by the names that servers use (responses API, ``incomplete_details.reason``).
_CUT_OFF = frozenset({"max_output_tokens", "max_tokens", "length"})


def _ours(code: str) -> Fail:
    return Fail(code, CODES[code])


def _is_cut_off(response: Response) -> bool:
    return response.status == "incomplete" and response.incomplete_reason in _CUT_OFF


def _has_text(response: Response) -> bool:
    return bool(response.output_text.strip())


def _has_answer(response: Response, expected: Expectation) -> bool:
    return _has_text(response) or (response.has_image and expected.policy.schema is None)


def _can_raise(expected: Expectation) -> bool:
    """Whether the job allows a higher limit than the request had; an unknown limit counts as lower."""
    raised = expected.policy.on_incomplete
    return isinstance(raised, RaiseTo) and (expected.max_output_tokens or 0) < raised.max_output_tokens


def _raise_limit(_: Response, expected: Expectation) -> ResponseVerdict:
    raised = expected.policy.on_incomplete
    limit = raised.max_output_tokens if isinstance(raised, RaiseTo) else None
    return Retry("max_output_tokens", message=CODES["max_output_tokens"], base_s=0.0, max_output_tokens=limit)


def _is_flawed(response: Response, expected: Expectation) -> bool:
    return expected.flaw is not None and response.status == "completed" and _has_text(response)


def _can_repair(expected: Expectation) -> bool:
    on_invalid = expected.policy.on_invalid
    return isinstance(on_invalid, Repair) and expected.repairs < on_invalid.at_most


def _repair(_: Response, expected: Expectation) -> ResponseVerdict:
    request = "Give the whole answer again, corrected, as JSON and nothing else."
    text = f"Your answer is not valid: {expected.flaw}. {request}"
    item = {"type": "message", "role": "user", "content": text}
    return Continue("output_invalid", (item,), _flaw_message(expected))


def _flaw_message(expected: Expectation) -> str:
    return f"{CODES['output_invalid']}: {expected.flaw}"


def _unfinished(response: Response, _: Expectation) -> ResponseVerdict:
    if _is_cut_off(response):
        return _ours("max_output_tokens")
    reason = response.incomplete_reason or "incomplete"
    return Fail(reason, response.error_message or f"the response is incomplete: {reason}")


OUTCOMES: tuple[Outcome, ...] = (
    Outcome(
        name="cancelled",
        when="status cancelled",
        then="cancelled, or retry if orchestrator cancelled it as overdue",
        why="It was stopped on purpose, so it is not sent again.",
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
        why="The model declined; the call succeeded and is charged.",
        matches=lambda response, _: response.status in {"completed", "incomplete"} and response.refusal is not None,
        verdict=lambda response, _: Fail("refusal", response.refusal or CODES["refusal"]),
    ),
    Outcome(
        name="tool-calls",
        when="status completed, with function calls and no other call that waits; the job has handlers",
        then="run the handlers, then continue",
        why="The answer follows the outputs of the tools.",
        matches=lambda response, expected: (
            response.status == "completed" and response.waits_for == "function_call" and expected.policy.handles_tools
        ),
        verdict=lambda *_: CallTools(),
    ),
    Outcome(
        name="requires-action",
        when="status completed, with an unanswered call or approval request",
        then="fail requires_action",
        why="The response only paused: the answer would follow the output of the tool.",
        matches=lambda response, _: response.status == "completed" and response.waits_for is not None,
        verdict=lambda response, _: Fail(
            "requires_action", f"the response waits for the output of {response.waits_for}"
        ),
    ),
    Outcome(
        name="repair",
        when="status completed, with text that is not the JSON asked for; the job allows another repair",
        then="continue from it with the reason",
        why="To correct an answer costs the model less than to write it again.",
        matches=lambda response, expected: _is_flawed(response, expected) and _can_repair(expected),
        verdict=_repair,
    ),
    Outcome(
        name="ask-again",
        when="status completed, with text that is not the JSON asked for; the job asks to retry",
        then="retry output_invalid",
        why="Another attempt may be valid.",
        matches=lambda response, expected: _is_flawed(response, expected) and expected.policy.on_invalid == "retry",
        verdict=lambda _, expected: Retry("output_invalid", message=_flaw_message(expected), base_s=0.0),
    ),
    Outcome(
        name="invalid",
        when="status completed, with text that is not the JSON asked for",
        then="fail output_invalid",
        why="Readers of the results rely on their shape.",
        matches=_is_flawed,
        verdict=lambda _, expected: Fail("output_invalid", _flaw_message(expected)),
    ),
    Outcome(
        name="answered",
        when="status completed, with text, or with an image where the job does not ask for JSON",
        then="succeed",
        why="An answer.",
        matches=lambda response, expected: response.status == "completed" and _has_answer(response, expected),
        verdict=lambda *_: Succeed(),
    ),
    Outcome(
        name="empty",
        when="status completed, without text or image",
        then="fail empty_output",
        why="Only reasoning, or no output at all, although it is charged: no answer.",
        matches=lambda response, _: response.status == "completed",
        verdict=lambda *_: _ours("empty_output"),
    ),
    Outcome(
        name="raise-limit",
        when="status incomplete at max_output_tokens; the job asks to raise it, which was not done yet",
        then="retry with the raised limit",
        why="Only once: an answer cut off at the raised limit fails.",
        matches=lambda response, expected: _is_cut_off(response) and _can_raise(expected),
        verdict=_raise_limit,
    ),
    Outcome(
        name="kept",
        when="status incomplete, with text; the job asks to keep it and does not ask for JSON",
        then="succeed; the status stays incomplete",
        why="The job accepts a partial answer; a part of a JSON value is useless.",
        matches=lambda response, expected: (
            response.status == "incomplete"
            and expected.policy.on_incomplete == "keep"
            and expected.policy.schema is None
            and _has_text(response)
        ),
        verdict=lambda *_: Succeed(),
    ),
    Outcome(
        name="nothing-to-keep",
        when="status incomplete, without text; the job asks to keep it",
        then="fail empty_output",
        why="Reasoning used up the whole limit.",
        matches=lambda response, expected: (
            response.status == "incomplete" and expected.policy.on_incomplete == "keep" and not _has_text(response)
        ),
        verdict=lambda *_: _ours("empty_output"),
    ),
    Outcome(
        name="incomplete",
        when="status incomplete",
        then="fail max_output_tokens, or with the provider's own reason",
        why="A partial answer is no answer unless the job says so.",
        matches=lambda response, _: response.status == "incomplete",
        verdict=_unfinished,
    ),
    Outcome(
        name="open",
        when="status queued, in_progress, or unknown",
        then="poll again",
        why="An unknown status never ends a response; its deadline does.",
        matches=lambda *_: True,
        verdict=lambda *_: PollAgain(),
    ),
)
