"""``show`` prints the request history of a row, from the disk and, on request, from the provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .rig import Rig

AT = ("--db", "runs.db")
CONFIGURED = (*AT, "--config", "config.yaml")
INPUT = [{"role": "user", "content": f"Item number {n}."} for n in range(250)]


@pytest.fixture
def finished(rig: Callable[..., Rig]) -> Rig:
    """A finished run of two rows, whose requests carry instructions and 250 input items each."""
    request = {
        "model": "gpt-5-mini",
        "instructions": "You count. {{ advice }}",
        "input": "{{ items }}",
        "max_output_tokens": 200,
    }
    made = rig(job={"request": request})
    made.write_rows({"id": f"row-{n}", "advice": f"{n}. " * 500, "items": INPUT} for n in range(2))
    assert made.run().code == 0
    return made


def test_the_request_is_shown_as_it_was_sent(finished: Rig) -> None:
    shown = finished.call("show", "r", "row-1", *AT, "--json").summary
    sent = shown["request"]
    assert sent["input"] == INPUT
    assert sent["instructions"] == "You count. " + "1. " * 500
    assert (sent["background"], sent["store"], sent["max_output_tokens"]) == (True, True, 200)
    assert sent["metadata"]["orchestrator_key"] == "row-1"
    assert sent["metadata"].items() <= shown["attempts"][0]["response"]["metadata"].items()
    text = finished.call("show", "r", "row-1", *AT).out
    assert text.startswith("row-1  succeeded\nfrom rows.jsonl:2\n")
    assert '"model": "gpt-5-mini"' in text
    assert "… (1,511 characters; --json shows them all)" in text


def test_the_provider_is_asked_for_the_input_items_of_all_pages_in_their_order(finished: Rig) -> None:
    items: list[dict[str, Any]] = [
        json.loads(line)
        for line in finished.call("show", "r", "row-0", *CONFIGURED, "--input-items").out.splitlines()
    ]
    assert [item["content"][0]["text"] for item in items] == [item["content"] for item in INPUT]


@pytest.mark.long
def test_an_unreachable_provider_is_reported_as_such(finished: Rig, free_port: int) -> None:
    finished.write_config({"provider": {"base_url": f"http://127.0.0.1:{free_port}/v1", "api_key_env": None}})
    away = finished.call("show", "r", "row-0", *CONFIGURED, "--input-items")
    assert (away.code, away.out) == (4, "")
    assert "could not be fetched: no connection" in away.err


@pytest.mark.long
def test_a_response_that_the_provider_forgot_is_reported_as_such(
    rig: Callable[..., Rig], server: Callable[..., str]
) -> None:
    made = rig(rows=1)
    assert made.run().code == 0
    made.write_config({"provider": {"base_url": server(), "api_key_env": "KEY"}})
    forgotten = made.call("show", "r", "row-0", *CONFIGURED, "--input-items", env={"KEY": "sk-other"})
    assert forgotten.code == 2
    assert "the provider no longer knows the input items of resp_" in forgotten.err


@pytest.mark.long
def test_a_row_that_was_never_sent_has_no_input_items(rig: Callable[..., Rig]) -> None:
    made = rig(rows=1, job={"budget": {"usd": 0.0000001}})
    assert made.run().code == 3
    shown = made.call("show", "r", "row-0", *AT, "--json").summary
    assert (shown["attempts"], shown["error"]["code"]) == ([], "over_budget")
    assert shown["request"]["metadata"]["orchestrator_attempt"] == "1"
    unsent = made.call("show", "r", "row-0", *CONFIGURED, "--input-items")
    assert unsent.code == 2
    assert "no response was created for 'row-0' yet" in unsent.err


@pytest.mark.long
def test_a_row_that_shares_an_answer_says_so(rig: Callable[..., Rig]) -> None:
    made = rig()
    made.write_rows({"id": f"row-{n}", "text": "All the same."} for n in range(2))
    assert made.run().code == 0
    first, second = [made.call("show", "r", f"row-{n}", *AT, "--json").summary for n in range(2)]
    assert second["attempts"] == []
    assert second["answered_by"]["response_id"] == first["attempts"][0]["response_id"]
    assert "answered by the response to row-0 of the run r" in made.call("show", "r", "row-1", *AT).out
    assert len(made.call("show", "r", "row-1", *CONFIGURED, "--input-items").out.splitlines()) == 1
