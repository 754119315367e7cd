"""What a response holds beside its text is found, whatever else is in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from orchestrator.provider.answer_items import AnswerParts, answer_parts


def parts(*items: Any) -> AnswerParts:
    return answer_parts(json.dumps({"id": "resp_1", "status": "completed", "output": list(items)}).encode())


def said(text: str, *annotations: Any, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), **more}


def message(*content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(content), **more}


URL = {"type": "url_citation", "url": "https://example.com", "title": "E", "start_index": 2, "end_index": 5}


def test_the_places_of_citations_are_those_in_the_whole_answer() -> None:
    file = {"type": "file_citation", "index": 7, "file_id": "file-1", "filename": "a.txt"}
    found = parts(message(said("Grüße", URL), said("abcdef", URL, file)), message(said("x", URL)))
    assert [each.get("start_index") for each in found.citations] == [2, 7, None, 13]
    assert [each.get("end_index") for each in found.citations] == [5, 10, None, 16]
    assert found.citations[2] == file
    assert {**found.citations[1], "start_index": 2, "end_index": 5} == URL


def test_only_the_final_answer_is_cited_if_one_is_marked() -> None:
    found = parts(message(said("thinking", URL), phase="commentary"), message(said("a", URL), phase="final_answer"))
    assert [each["start_index"] for each in found.citations] == [2]


def test_results_of_file_searches_come_in_their_order() -> None:
    hits = [{"file_id": "file-1", "score": 0.5, "text": "one"}, {"file_id": "file-2", "score": 0.25, "text": "two"}]
    found = parts(
        {"type": "file_search_call", "results": hits[:1]},
        {"type": "file_search_call", "results": None},
        {"type": "file_search_call", "results": hits[1:]},
    )
    assert found.file_results == hits


def test_images_with_their_data_or_address() -> None:
    drawn = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk=", "size": "1x1"}
    plotted = {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "outputs": [{"type": "image", "url": "https://x/1.png"}],
    }
    failed = {"type": "image_generation_call", "id": "ig_2", "status": "failed", "result": None}
    assert parts(drawn, plotted, failed).images == [
        {"id": "ig_1", "status": "completed", "size": "1x1", "base64": "aGk="},
        {"id": "ci_1", "url": "https://x/1.png"},
    ]


def test_log_probabilities_and_the_summary_of_the_reasoning() -> None:
    token = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}
    found = parts(
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Then."}]},
        message(said("Hi", logprobs=[token]), said("!", logprobs=[])),
    )
    assert (found.logprobs, found.reasoning_summary) == ([token], "First.\n\nThen.")


@pytest.mark.parametrize(
    "items",
    [
        [message(said("x"))],
        [message({"type": "output_text", "text": "x", "annotations": None, "logprobs": "none"})],
        [{"type": "reasoning", "summary": "text"}, {"type": "file_search_call"}, {"type": "image_generation_call"}],
        [{"type": "code_interpreter_call", "outputs": [None, {"type": "image"}, {"type": "logs", "logs": "1"}]}],
    ],
)
def test_what_is_absent_or_odd_is_no_part(items: list[Any]) -> None:
    assert parts(*items) == AnswerParts(citations=[], file_results=[], images=[], logprobs=[])


@pytest.mark.parametrize("body", [None, b"", b"not JSON", b"[]", b'{"output": 3}'])
def test_a_body_without_items_has_no_parts(body: bytes | None) -> None:
    assert not any(asdict(answer_parts(body)).values())
