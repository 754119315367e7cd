"""The fields of a create call: what job, config, earlier attempts and earlier turns add to a rendered row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.job.chains import Chain
from orchestrator.job.requests.compose import RequestRules, compose, fingerprint
from orchestrator.job.requests.turns import continuation_of

ASKED: dict[str, Any] = {"model": "gpt-5-mini", "instructions": "Be brief.", "input": "And then?"}


@dataclass(frozen=True)
class Row:
    conversation_id: str | None = None
    earlier_response_id: str | None = None
    max_output_tokens: int | None = None


def chained(mode: str) -> RequestRules:
    return RequestRules(chain=Chain.model_validate({"by": "talk", "mode": mode}))


def cache_key(fields: dict[str, Any]) -> str:
    key: str = compose(fields, RequestRules(cache_key=True))["prompt_cache_key"]
    return key


def test_without_rules_a_request_is_what_the_row_renders_to() -> None:
    composed = compose(ASKED, RequestRules())
    assert composed == ASKED
    assert composed is not ASKED


def test_the_rendered_fields_are_never_changed() -> None:
    before = dict(ASKED)
    rules = RequestRules(cap_output_tokens=100, cache_key=True, stream=True)
    compose(ASKED, rules, Row(max_output_tokens=900), continuation=continuation_of("resp_1", []))
    assert before == ASKED


@pytest.mark.parametrize(
    ("given", "raised", "sent"),
    [({}, None, 100), ({"max_output_tokens": None}, None, 100), ({"max_output_tokens": 7}, None, 7), ({}, 900, 900)],
)
def test_a_cap_bounds_only_requests_without_a_bound(given: dict[str, Any], raised: int | None, sent: int) -> None:
    composed = compose({**ASKED, **given}, RequestRules(cap_output_tokens=100), Row(max_output_tokens=raised))
    assert composed == {**ASKED, "max_output_tokens": sent}


@pytest.mark.parametrize(
    ("mode", "adds"),
    [
        ("previous_response", {"previous_response_id": "resp_0"}),
        ("conversation", {"conversation": "conv_0"}),
        (
            "stateless",
            {
                "input": [
                    {"role": "user", "content": "First?"},
                    {"role": "assistant", "content": "First."},
                    {"role": "user", "content": "And then?"},
                ]
            },
        ),
    ],
)
def test_a_turn_of_a_chain_is_tied_to_the_turns_before_it(mode: str, adds: dict[str, Any]) -> None:
    row = Row(conversation_id="conv_0", earlier_response_id="resp_0")
    history = [("First?", "First.")]
    assert compose(ASKED, chained(mode), row, history=history) == {**ASKED, **adds}


@pytest.mark.parametrize("mode", ["previous_response", "conversation"])
def test_the_first_turn_of_a_chain_is_tied_to_nothing(mode: str) -> None:
    assert compose(ASKED, chained(mode)) == ASKED


def test_a_further_turn_of_a_row_keeps_what_the_rules_add() -> None:
    rules = RequestRules(cap_output_tokens=100, stream=True)
    composed = compose(ASKED, rules, continuation=continuation_of("resp_1", ["new"]))  # type: ignore[list-item]
    assert composed == {
        **ASKED,
        "max_output_tokens": 100,
        "stream": True,
        "previous_response_id": "resp_1",
        "input": ["new"],
    }


def test_requests_that_begin_alike_have_the_same_cache_key() -> None:
    key = cache_key(ASKED)
    assert key == cache_key({**ASKED, "input": "Something else.", "metadata": {"row": "1"}})
    assert len(key) <= 64
    assert key != cache_key({**ASKED, "instructions": "Be long."})
    assert key != cache_key({**ASKED, "model": "gpt-5"})
    assert key != cache_key({**ASKED, "tools": [{"type": "web_search"}]})
    assert cache_key({**ASKED, "prompt_cache_key": "mine"}) == "mine"


# ── the fingerprint ───────────────────────────────────────────────────────────────────────────────────────────


def test_requests_ask_the_same_for_any_user_and_in_any_order() -> None:
    asked = fingerprint({**ASKED, "metadata": {"row": "1"}, "user": "a", "prompt_cache_key": "x"}, provider="one")
    again = {"safety_identifier": "b", "metadata": {"row": "2"}, **dict(reversed(ASKED.items()))}
    assert asked is not None
    assert fingerprint(again, provider="one") == asked
    assert len(asked) == 16


def test_a_streamed_request_asks_the_same_as_a_polled_one() -> None:
    assert fingerprint(compose(ASKED, RequestRules(stream=True)), provider="one") == fingerprint(
        ASKED, provider="one"
    )


def test_a_request_in_a_conversation_has_no_duplicate() -> None:
    assert fingerprint({**ASKED, "conversation": "conv_1"}, provider="one") is None


@pytest.mark.parametrize(
    "changed",
    [{"input": "And now?"}, {"model": "gpt-5"}, {"temperature": 0.5}, {"tools": []}, {"service_tier": "flex"}],
)
def test_any_other_field_makes_another_request(changed: dict[str, Any]) -> None:
    assert fingerprint({**ASKED, **changed}, provider="one") != fingerprint(ASKED, provider="one")


def test_another_provider_was_asked_something_else() -> None:
    one, other = (f"https://gateway.example/v1/{'0' * 64}/{name}" for name in ("one", "other"))
    assert fingerprint(ASKED, provider=one) != fingerprint(ASKED, provider=other)
