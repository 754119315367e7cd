"""What a further turn sends, and which earlier turns a stateless chain carries along."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.job.requests.turns import (
    continuation_of,
    in_conversation,
    tool_output,
    with_continuation,
    with_history,
)

ASKED: dict[str, Any] = {"model": "gpt-5-mini", "instructions": "Be brief.", "input": "And then?"}
ANSWERS = [tool_output("call_1", "42")]


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


# ── the next turn of a request ────────────────────────────────────────────────────────────────────────────────


def test_a_further_turn_continues_the_response_with_only_what_is_new() -> None:
    assert with_continuation(ASKED, continuation_of("resp_1", ANSWERS)) == {
        **ASKED,
        "previous_response_id": "resp_1",
        "input": [{"type": "function_call_output", "call_id": "call_1", "output": "42"}],
    }


def test_a_further_turn_replaces_the_response_that_the_row_continued() -> None:
    fields = {**ASKED, "previous_response_id": "resp_0"}
    assert with_continuation(fields, continuation_of("resp_1", ANSWERS))["previous_response_id"] == "resp_1"


def test_in_a_conversation_the_response_before_is_known_already() -> None:
    fields = in_conversation(ASKED, "conv_1")
    assert fields == {**ASKED, "conversation": "conv_1"}
    assert with_continuation(fields, continuation_of("resp_1", ANSWERS)) == {**fields, "input": ANSWERS}


@pytest.mark.parametrize(
    ("choice", "then"),
    [
        ("required", "auto"),
        ({"type": "function", "name": "look_up"}, "auto"),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, "auto"),
        ("auto", "auto"),
        ("none", "none"),
    ],
)
def test_a_call_is_forced_once(choice: object, then: str) -> None:
    assert (
        with_continuation({**ASKED, "tool_choice": choice}, continuation_of("resp_1", ANSWERS))["tool_choice"] == then
    )


# ── the turns before in a chain ───────────────────────────────────────────────────────────────────────────────


def test_the_turns_before_are_carried_along_in_their_order() -> None:
    turns = [("second?", "Second."), ([said("user", "first?")], "First.")]
    assert with_history(ASKED, turns, most_tokens=1_000) == {
        **ASKED,
        "input": [
            said("user", "first?"),
            said("assistant", "First."),
            said("user", "second?"),
            said("assistant", "Second."),
            said("user", "And then?"),
        ],
    }


def test_what_does_not_fit_is_left_out_but_for_the_rules() -> None:
    turns = [
        ("third?", "Third."),
        ([said("developer", "Say no more."), said("user", "second?" * 100)], "Second."),
        ([system("You are a clerk."), said("user", "first?")], "First."),
    ]
    # The first turn would fit, but a history with a hole in it would be another talk.
    kept = with_history(ASKED, turns, most_tokens=100)["input"]
    assert kept == [
        system("You are a clerk."),
        said("developer", "Say no more."),
        said("user", "third?"),
        said("assistant", "Third."),
        said("user", "And then?"),
    ]


def test_without_room_there_is_no_history() -> None:
    assert with_history(ASKED, [("first?", "First.")], most_tokens=0)["input"] == [said("user", "And then?")]


TURNS = st.lists(
    st.tuples(
        st.one_of(
            st.text(max_size=60),
            st.lists(
                st.builds(said, st.sampled_from(["user", "system", "developer"]), st.text(max_size=60)), max_size=3
            ),
        ),
        st.text(max_size=60),
    ),
    max_size=6,
)


@given(TURNS, st.integers(0, 200))
def test_a_history_is_the_latest_turns_and_all_rules(turns: list[tuple[Any, str]], most_tokens: int) -> None:
    *history, asked = with_history(ASKED, turns, most_tokens=most_tokens)["input"]
    assert asked == said("user", "And then?")
    whole = with_history(ASKED, turns, most_tokens=10**9)["input"][:-1]
    rules = [item for item in whole if item["role"] in ("system", "developer")]
    # What is left of the whole is a tail of it, with those rules before that come from older turns.
    tails = [whole[cut:] for cut in range(len(whole) + 1)]
    assert any(history == rules[: len(history) - len(tail)] + tail for tail in tails)
    assert [item for item in history if item["role"] in ("system", "developer")] == rules
    spoken = [item for item in history if item not in rules]
    assert len(orjson.dumps(spoken)) // 4 <= most_tokens + 1
