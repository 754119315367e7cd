"""The parts that pages are made of: visible text, word differences, charges, prompts, addresses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from orchestrator.core.errors import UsageError
from orchestrator.core.model import Charge, ToolUse, Usage
from orchestrator.core.states import SETTLED, State
from orchestrator.policy.pricing.prices import charge as cost_of
from orchestrator.stores.pulses import Pulse
from orchestrator.web.charge_parts import charge_parts
from orchestrator.web.page_addresses import STATE_GROUPS, filter_of, kept_fields, place_of, query_of
from orchestrator.web.prompt_parts import SHOWN_CHARACTERS, prompt_parts, text_object
from orchestrator.web.rendering import render
from orchestrator.web.run_pages import latest_rate
from orchestrator.web.visible_text import finalize, shortened, visible
from orchestrator.web.word_diff import MOST_WORDS, word_diff
from tests.stores.builders import NOW, PRICE

from .hostile_texts import HOSTILE

# ── visible text ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcödé 😀", "plain, ünïcödé 😀"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x1b[2J", "␛[2J"),
        ("nul \x00", "nul ␀"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("\u2066a\u2069", "⟨U+2066⟩a⟨U+2069⟩"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("\r\n", "␍\n"),
        ("\x7f", "⟨U+007F⟩"),
        ("\ud83d", "⟨U+D83D⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
    ],
)
def test_hidden_characters_become_marks(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_what_is_visible_can_be_encoded_and_stays_so(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown


def test_a_template_prints_markup_as_it_is_and_nothing_for_none() -> None:
    assert finalize(None) == ""
    assert finalize(Markup("<b>\x1b</b>")) == "<b>\x1b</b>"
    assert finalize(7) == 7


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, ""),
        ("short", "short"),
        ("two\n\nlines", "two lines"),
        ("exactly ten", "exactly …"),
        ("a" * 1_000, "aaaaaaaaaa …"),
        (" " * 1_000 + "b", " …"),
    ],
)
def test_a_long_text_is_cut_to_one_line(text: str | None, shown: str) -> None:
    assert shortened(text, 10 if text != "exactly ten" else 8) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_page_shows_any_text_as_text(text: str) -> None:
    page = render("error.html", {"message": text, "hint": text, "status": 404})
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "49" not in page.replace("7 * 7", "")


# ── word differences ────────────────────────────────────────────────────────────────────────────────────────────


def test_words_that_differ_are_marked_on_their_side() -> None:
    found = word_diff("the quick brown fox.", "the slow brown fox!")
    assert found is not None
    assert found[0] == [("same", "the "), ("removed", "quick "), ("same", "brown fox"), ("removed", ".")]
    assert found[1] == [("same", "the "), ("added", "slow "), ("same", "brown fox"), ("added", "!")]


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_pieces_of_each_side_are_its_text(one: str, other: str) -> None:
    found = word_diff(one, other)
    assert found is not None
    assert "".join(text for _, text in found[0]) == one
    assert "".join(text for _, text in found[1]) == other
    same = [[text for change, text in side if change == "same"] for side in found]
    assert "".join(same[0]) == "".join(same[1])


def test_equal_texts_have_no_difference_and_very_long_ones_are_not_compared() -> None:
    assert word_diff("same", "same") == ([("same", "same")], [("same", "same")])
    assert word_diff("", "") == ([], [])
    assert word_diff("word " * (MOST_WORDS + 1), "word") is None


# ── charges ─────────────────────────────────────────────────────────────────────────────────────────────────────

counts = st.integers(0, 10**6)


@given(fresh=counts, cached=counts, written=counts, written_12h=counts, output=counts, searches=st.integers(0, 9))
def test_the_parts_of_a_charge_add_up_to_it(
    fresh: int, cached: int, written: int, written_12h: int, output: int, searches: int
) -> None:
    usage = Usage(
        input_tokens=fresh + cached + written + written_12h,
        cached_tokens=cached,
        cache_write_tokens=written + written_12h,
        output_tokens=output,
        total_tokens=fresh + cached + written + written_12h + output,
        cache_write_12h_tokens=written_12h,
    )
    used = ToolUse(web_searches=searches, file_searches=searches, code_sessions=searches)
    cost = cost_of(usage, used, PRICE)
    parts = charge_parts(Charge(usage=usage, cost_pusd=cost, upper_bound_pusd=None, price=PRICE, tool_use=used))
    assert sum(part.pusd for part in parts) == cost
    assert all(part.count for part in parts)


def test_images_are_a_part_of_a_charge() -> None:
    usage = Usage(input_tokens=10, total_tokens=10)
    paid = Charge(usage=usage, cost_pusd=2_500_500, upper_bound_pusd=None, price=PRICE, image_pusd=500)
    assert [part.what for part in charge_parts(paid)] == ["input tokens", "generated images"]
    assert sum(part.pusd for part in charge_parts(paid)) == paid.cost_pusd


def test_an_unknown_cost_has_no_parts() -> None:
    assert charge_parts(Charge(usage=None, cost_pusd=None, upper_bound_pusd=5, price=None)) == []
    usage = Usage(input_tokens=10, total_tokens=10)
    assert charge_parts(Charge(usage=usage, cost_pusd=None, upper_bound_pusd=5, price=PRICE)) == []


# ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def names_and_texts(sent: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(part["name"], part["text"]) for part in prompt_parts(sent)]


def test_a_prompt_is_read_as_text_with_its_line_breaks() -> None:
    found = names_and_texts({"model": "m", "instructions": "Be brief.", "input": "one\ntwo"})
    assert found[:2] == [("instructions", "Be brief."), ("input", "one\ntwo")]
    assert found[2] == ("other fields", '{\n  "model": "m"\n}')


def test_messages_are_read_one_by_one() -> None:
    image = {"type": "input_image", "image_url": "https://example.org/a.png"}
    contents = [{"type": "input_text", "text": "see"}, image]
    sent = {"input": [{"role": "user", "content": "hello"}, {"role": "user", "content": contents}, {"type": "odd"}]}
    found = names_and_texts(sent)
    assert [name for name, _ in found] == ["input: user", "input: user", "input: odd", "other fields"]
    assert found[0][1] == "hello"
    assert found[1][1].startswith("see\n\n{")
    assert "example.org" in found[1][1]


@pytest.mark.parametrize("given", [None, 7, [], ["text"], [1, {}], {"a": 1}, [{"role": 3, "content": [1]}]])
def test_an_input_of_any_shape_is_shown(given: object) -> None:
    assert names_and_texts({"input": given})[-1] == ("other fields", "{}")


def test_a_long_text_is_cut_and_says_how_long_it_is() -> None:
    cut = text_object("x" * (SHOWN_CHARACTERS + 1))
    assert (len(cut["text"]), cut["characters"], cut["is_cut"]) == (SHOWN_CHARACTERS, SHOWN_CHARACTERS + 1, True)
    assert text_object("x")["is_cut"] is False


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_filter_is_read_from_an_address() -> None:
    chosen = filter_of({"state": "settled", "code": "refusal", "stage": "", "flag": "check", "q": "a b"})
    assert set(chosen.states or ()) == SETTLED
    assert (chosen.code, chosen.stage, chosen.flag, chosen.text) == ("refusal", None, "check", "a b")
    assert filter_of({}).states is None
    assert all(filter_of({"state": state.value}).states == (state,) for state in State)


def test_an_address_keeps_only_what_chooses_rows() -> None:
    fields = {"state": "failed", "after": "12", "q": "", "sort": "cost", "odd": "1"}
    assert kept_fields(fields) == {"state": "failed", "sort": "cost"}
    assert query_of({"q": "a&b", "flag": None, "code": ""}) == "?q=a%26b"
    assert query_of({}) == ""
    assert query_of({"q": "\ud83d"}) == "?q=%3F"


def test_the_place_of_a_page_is_a_number() -> None:
    assert (place_of({}).request_id, place_of({}).backward) == (0, False)
    assert (place_of({"before": "7"}).request_id, place_of({"before": "7"}).backward) == (7, True)
    for wrong in ("-1", "x", "1.5", "१", "9" * 30):
        with pytest.raises(UsageError):
            place_of({"after": wrong})


def test_an_unknown_state_or_order_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        filter_of({"state": "odd"})
    assert all(name in (refused.value.hint or "") for name in STATE_GROUPS)
    with pytest.raises(UsageError):
        filter_of({"sort": "key"})


# ── speed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def a_pulse(at: float, settled: int) -> Pulse:
    return Pulse(
        at=NOW + at, settled=settled, failed=0, in_flight=0, attempts=0, polls=0, rate_limited=0, cost_pusd=0
    )


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        ([], None),
        ([(0, 5)], None),
        ([(0, 0), (10, 20)], 2.0),
        ([(0, 0), (100, 0), (150, 100)], 2.0),
        ([(0, 0), (500, 100)], 0.2),
        ([(0, 7), (0, 9)], None),
    ],
)
def test_the_speed_is_that_of_the_last_minute(samples: list[tuple[float, int]], rate: float | None) -> None:
    assert latest_rate([a_pulse(at, settled) for at, settled in samples]) == rate
