"""Every row of the table of outcomes: how a readable response ends its request."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import CODES
from orchestrator.core.model import Response
from orchestrator.policy.errors.answer_schema import AnswerSchema
from orchestrator.policy.errors.judgement import AnswerPolicy, OnInvalid, RaiseTo, Repair, judge_response
from orchestrator.policy.errors.outcomes import OUTCOMES, Expectation, OnIncomplete
from orchestrator.policy.errors.verdicts import (
    CallTools,
    Cancelled,
    Continue,
    Fail,
    Halt,
    PollAgain,
    ResponseVerdict,
    Retry,
    Succeed,
)

ENDED = frozenset({"completed", "failed", "incomplete", "cancelled"})


def a_response(status: str = "completed", **fields: Any) -> Response:
    return Response(id="resp_1", status=status, ended=status in ENDED, body=b"{}", **fields)


def cut_off(reason: str | None = "max_output_tokens", text: str = "Half of") -> Response:
    return a_response("incomplete", incomplete_reason=reason, output_text=text)


def ours(code: str) -> Fail:
    return Fail(code, CODES[code])


class Case(NamedTuple):
    response: Response
    verdict: ResponseVerdict
    expected: Expectation = Expectation()


SCHEMA = AnswerSchema({"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]})
WRONG = a_response(output_text='{"year": "1790"}')
FLAW = 'year: the value is not of type "integer"'
MESSAGE = f"{CODES['output_invalid']}: {FLAW}"


def invalid(on_invalid: OnInvalid = "fail", repairs: int = 0) -> Expectation:
    return Expectation(AnswerPolicy(schema=SCHEMA, on_invalid=on_invalid), repairs=repairs, flaw=FLAW)


def repair(flaw: str) -> Continue:
    text = f"Your answer is not valid: {flaw}. Give the whole answer again, corrected, as JSON and nothing else."
    item = {"type": "message", "role": "user", "content": text}
    return Continue("output_invalid", (item,), f"{CODES['output_invalid']}: {flaw}")


RAISED = Retry("max_output_tokens", message=CODES["max_output_tokens"], base_s=0.0, max_output_tokens=2000)
KEEP = Expectation(AnswerPolicy(on_incomplete="keep"))
REPAIR = Expectation(AnswerPolicy(schema=SCHEMA, on_invalid=Repair()))
TOOLS = Expectation(AnswerPolicy(handles_tools=True))


def raised(cap: int | None) -> Expectation:
    return Expectation(AnswerPolicy(on_incomplete=RaiseTo(2000)), max_output_tokens=cap)


CASES: dict[str, list[Case]] = {
    "cancelled": [
        Case(a_response("cancelled"), Cancelled()),
        Case(a_response("cancelled", output_text="partial"), Cancelled(), KEEP),
    ],
    "content-filter": [
        Case(cut_off("content_filter"), ours("content_filter")),
        Case(cut_off("content_filter"), ours("content_filter"), KEEP),
        Case(cut_off("content_filter"), ours("content_filter"), raised(100)),
    ],
    "refusal": [
        Case(a_response(refusal="I cannot help with that."), Fail("refusal", "I cannot help with that.")),
        Case(a_response(refusal="No.", output_text="Well"), Fail("refusal", "No.")),
        Case(a_response("incomplete", refusal="No."), Fail("refusal", "No."), KEEP),
        Case(a_response(refusal="No."), Fail("refusal", "No."), REPAIR),
    ],
    "tool-calls": [
        Case(a_response(waits_for="function_call"), CallTools(), TOOLS),
        Case(a_response(waits_for="function_call", output_text="Let me see"), CallTools(), TOOLS),
    ],
    "requires-action": [
        Case(
            a_response(waits_for="mcp_approval_request"),
            Fail("requires_action", "the response waits for the output of mcp_approval_request"),
            TOOLS,
        ),
        Case(
            a_response(waits_for="function_call", output_text="Let me see"),
            Fail("requires_action", "the response waits for the output of function_call"),
        ),
    ],
    "repair": [
        Case(WRONG, repair(FLAW), invalid(Repair())),
        Case(WRONG, repair(FLAW), invalid(Repair(3), repairs=2)),
    ],
    "ask-again": [Case(WRONG, Retry("output_invalid", message=MESSAGE, base_s=0.0), invalid("retry"))],
    "invalid": [
        Case(WRONG, Fail("output_invalid", MESSAGE), invalid()),
        Case(WRONG, Fail("output_invalid", MESSAGE), invalid(Repair(), repairs=1)),
        Case(WRONG, Fail("output_invalid", MESSAGE), invalid(Repair(3), repairs=3)),
    ],
    "answered": [
        Case(a_response(output_text="Hi"), Succeed()),
        Case(a_response(output_text=' {"year": 1790} '), Succeed(), Expectation(AnswerPolicy(schema=SCHEMA))),
        Case(a_response(has_image=True), Succeed()),
    ],
    "empty": [
        Case(a_response(), ours("empty_output"), REPAIR),
        Case(a_response(), ours("empty_output")),
        Case(a_response(has_image=True), ours("empty_output"), Expectation(AnswerPolicy(schema=SCHEMA))),
        Case(a_response(output_text=" \n"), ours("empty_output")),
        Case(a_response(), ours("empty_output"), raised(100)),
    ],
    "raise-limit": [
        Case(cut_off("max_output_tokens"), RAISED, raised(300)),
        Case(cut_off("max_tokens"), RAISED, raised(1999)),
        Case(cut_off("length"), RAISED, raised(300)),
        Case(cut_off(text=""), RAISED, raised(300)),
        Case(cut_off(), RAISED, raised(None)),
    ],
    "kept": [Case(cut_off(), Succeed(), KEEP), Case(cut_off(None), Succeed(), KEEP)],
    "nothing-to-keep": [Case(cut_off(text=""), ours("empty_output"), KEEP)],
    "incomplete": [
        Case(cut_off("length"), ours("max_output_tokens")),
        Case(cut_off(), ours("max_output_tokens"), raised(2000)),
        Case(cut_off(), ours("max_output_tokens"), Expectation(AnswerPolicy(schema=SCHEMA, on_incomplete="keep"))),
        Case(cut_off(), ours("max_output_tokens"), REPAIR),
        Case(cut_off("a_new_reason"), Fail("a_new_reason", "the response is incomplete: a_new_reason")),
        Case(cut_off(None), Fail("incomplete", "the response is incomplete: incomplete"), raised(100)),
    ],
    "open": [
        Case(a_response("queued"), PollAgain()),
        Case(a_response("in_progress", output_text="so far"), PollAgain()),
        Case(a_response("running"), PollAgain()),
        Case(a_response("canceled"), PollAgain()),
    ],
}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{number}" if number else name)
        for name, cases in CASES.items()
        for number, case in enumerate(cases)
    ],
)
def test_each_row_of_the_outcomes(name: str, case: Case) -> None:
    row = next(row for row in OUTCOMES if row.matches(case.response, case.expected))
    assert row.name == name
    verdict = judge_response(
        case.response,
        case.expected.policy,
        max_output_tokens=case.expected.max_output_tokens,
        repairs=case.expected.repairs,
    )
    assert verdict == case.verdict


def test_each_row_of_the_outcomes_has_a_case() -> None:
    assert list(CASES) == [row.name for row in OUTCOMES]


def test_an_error_message_of_a_failed_response_is_kept() -> None:
    response = a_response("failed", error_code="invalid_prompt", error_message="The prompt was flagged.")
    assert judge_response(response, AnswerPolicy()) == Fail("invalid_prompt", "The prompt was flagged.")


texts = st.one_of(st.none(), st.text(max_size=20))


@given(
    status=st.one_of(st.sampled_from([*sorted(ENDED), "queued", "in_progress"]), st.text(min_size=1, max_size=10)),
    code=texts,
    reason=st.one_of(st.sampled_from(["max_output_tokens", "length", "content_filter"]), texts),
    text=st.one_of(st.text(max_size=5), st.just('{"year": 1790}')),
    refusal=texts,
    waits_for=st.sampled_from([None, "function_call"]),
    on_incomplete=st.one_of(st.sampled_from(["fail", "keep"]), st.builds(RaiseTo, st.integers(16, 4000))),
    cap=st.one_of(st.none(), st.integers(16, 4000)),
    structured=st.booleans(),
    on_invalid=st.one_of(st.sampled_from(["fail", "retry"]), st.builds(Repair, st.integers(1, 3))),
    repairs=st.integers(0, 3),
)
def test_every_response_has_a_verdict_and_only_an_ended_one_ends(
    status: str,
    code: str | None,
    reason: str | None,
    text: str,
    refusal: str | None,
    waits_for: str | None,
    on_incomplete: OnIncomplete,
    cap: int | None,
    structured: bool,
    on_invalid: OnInvalid,
    repairs: int,
) -> None:
    response = a_response(
        status, error_code=code, incomplete_reason=reason, output_text=text, refusal=refusal, waits_for=waits_for
    )
    verdict = judge_response(
        response,
        AnswerPolicy(on_incomplete=on_incomplete, schema=SCHEMA if structured else None, on_invalid=on_invalid),
        max_output_tokens=cap,
        repairs=repairs,
    )
    assert isinstance(verdict, PollAgain) is not response.ended
    if isinstance(verdict, Succeed):
        assert text.strip()
        assert status in {"completed", "incomplete"}
        assert not structured or SCHEMA.flaw(text) is None
    if isinstance(verdict, Continue):
        assert isinstance(on_invalid, Repair)
        assert repairs < on_invalid.at_most
    if isinstance(verdict, Retry) and verdict.max_output_tokens is not None:
        assert verdict.max_output_tokens > (cap or 0)
    if isinstance(verdict, Fail | Retry | Halt):
        assert verdict.code
