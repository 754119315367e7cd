from __future__ import annotations

from typing import Any

import pytest

from orchestrator.intake.parameters import (
    PARAMETERS,
    WRONG_PARAMETERS,
    missing_parameters,
    parameter_mistakes,
    parameter_warnings,
)

BASE = {"model": "gpt-5-mini", "input": "Hello"}


def found(**fields: Any) -> list[tuple[str, str]]:
    mistakes = parameter_mistakes({**BASE, **fields})
    return [(".".join(map(str, mistake.field)), mistake.message) for mistake in mistakes]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("messages", "use input"),
        ("max_tokens", "use max_output_tokens"),
        ("max_completion_tokens", "use max_output_tokens"),
        ("response_format", "use text: {format: {type: json_schema"),
        ("reasoning_effort", "use reasoning: {effort: low}"),
        ("verbosity", "use text: {verbosity: low}"),
        ("functions", "use tools"),
        ("function_call", "use tool_choice"),
        ("stop", "no stop sequences"),
        ("seed", "no seed"),
        ("n", "one answer"),
        ("stream_options", "there is no stream"),
    ],
)
def test_well_known_wrong_parameters_are_refused_with_the_right_form(name: str, remedy: str) -> None:
    [mistake] = parameter_mistakes({**BASE, name: 1})
    assert mistake.field == (name,)
    assert mistake.message == "the Responses API has no such parameter"
    assert remedy in (mistake.hint or "")


def test_every_wrong_parameter_is_tested() -> None:
    marks = test_well_known_wrong_parameters_are_refused_with_the_right_form.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} == WRONG_PARAMETERS.keys()
    assert not WRONG_PARAMETERS.keys() & PARAMETERS.keys()


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"stream": True}, "stream", "cannot be used in a background run: answers are fetched by polling"),
        ({"store": False}, "store", "must be true: a background response that is not stored cannot be fetched"),
        ({"background": False}, "background", "must be true: every request of a run is a background response"),
        (
            {"previous_response_id": "resp_1", "conversation": "conv_1"},
            "previous_response_id",
            "cannot be used together with conversation",
        ),
        ({"max_output_tokens": 15}, "max_output_tokens", "must be a whole number of at least 16"),
        ({"max_output_tokens": "300"}, "max_output_tokens", "must be a whole number of at least 16"),
        ({"max_output_tokens": True}, "max_output_tokens", "must be a whole number of at least 16"),
        ({"max_output_tokens": 99.5}, "max_output_tokens", "must be a whole number of at least 16"),
        ({"temperature": "hot"}, "temperature", "must be a number"),
        ({"top_p": True}, "top_p", "must be a number"),
        ({"model": 5}, "model", "must be the name of a model"),
        ({"model": ""}, "model", "must be the name of a model"),
        ({"input": {"role": "user"}}, "input", "must be text or a list of input items"),
        ({"input": None}, "input", "must be text or a list of input items"),
        ({"instructions": ["a"]}, "instructions", "must be text"),
        ({"prompt": "Say hello"}, "prompt", "must name a stored prompt: {id: …}"),
        ({"prompt_cache_retention": "in-memory"}, "prompt_cache_retention", "must be in_memory or 24h"),
        ({"tools": {"type": "web_search"}}, "tools", "must be a list of tools"),
        (
            {"tools": [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}]},
            "tools.1.function",
            "is the form of chat completions",
        ),
        ({"tools": [{"type": "file_search"}]}, "tools.0", "file_search needs vector_store_ids"),
        ({"tools": [{"type": "computer_use"}]}, "tools.0.type", "there is no tool computer_use"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice.function",
            "is the form of chat completions",
        ),
        (
            {"text": {"format": {"type": "json_schema", "json_schema": {}}}},
            "text.format.json_schema",
            "is the form of chat completions",
        ),
        (
            {"background_options": {"completion_window": "8h"}, "service_tier": "flex"},
            "background_options.completion_window",
            "2h and 8h are for the standard service tier only",
        ),
        ({"background_options": "8h"}, "background_options", "must be a mapping such as {completion_window: 8h}"),
        ({"metadata": ["a"]}, "metadata", "must be a mapping of text to text"),
        ({"metadata": {f"k{i}": "v" for i in range(14)}}, "metadata", "may have at most 13 pairs"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "a name may have at most 64 characters"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "may have at most 512 characters"),
        ({"metadata": {"k": 5}}, "metadata.k", "must be text"),
        (
            {"metadata": {"orchestrator_run": "x"}},
            "metadata.orchestrator_run",
            "names that start with orchestrator_ are ours",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(fields: dict[str, Any], field: str, message: str) -> None:
    assert found(**fields) == [(field, message)]


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False, "store": True, "background": True},
        {"stream": None, "store": None, "background": None},
        {"max_output_tokens": 16},
        {"max_output_tokens": None},
        {"metadata": {f"k{i}" * 10: "v" * 512 for i in range(13)}},
        {"metadata": None},
        {"instructions": None},
        {"temperature": 0.2, "top_p": 1, "top_logprobs": None},
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"input": [{"role": "user", "content": "Hello"}]},
        {"prompt": {"id": "pmpt_1"}},
        {"prompt_cache_retention": "24h"},
        {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}, "{{ tool }}"]},
        {"tool_choice": "auto"},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}, "verbosity": "low"}},
        {"background_options": {"completion_window": "8h"}, "service_tier": "default"},
        {"background_options": {"completion_window": "soonest"}, "service_tier": "flex"},
        {"frequency_penalty": 0.5, "a_field_of_next_month": {"any": ["thing"]}},
    ],
)
def test_what_may_work_is_let_through(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


def test_a_template_is_judged_only_with_a_row() -> None:
    request = {"max_output_tokens": "{{ n }}", "input": "{{ messages }}", "metadata": "{{ m }}", "tools": "{{ t }}"}
    assert list(parameter_mistakes(request)) == []
    rendered = {"max_output_tokens": 5, "metadata": {"k": "{{" + "x" * 520}}
    assert [mistake.field for mistake in parameter_mistakes(rendered, templates=False)] == [
        ("max_output_tokens",),
        ("metadata", "k"),
    ]


def test_no_mistake_repeats_a_value() -> None:
    canary = "CANARY"
    request: dict[str, Any] = dict.fromkeys((*PARAMETERS, *WRONG_PARAMETERS, "stream"), canary)
    request |= {"metadata": {"k": canary * 100}, "tools": [{"type": "function", "function": {"name": canary}}]}
    mistakes = list(parameter_mistakes(request))
    assert mistakes
    assert not any(canary in f"{mistake.message}{mistake.hint}" for mistake in mistakes)


def test_model_and_input_are_needed_unless_a_stored_prompt_supplies_them() -> None:
    assert [mistake.field for mistake in missing_parameters({})] == [("model",), ("input",)]
    assert list(missing_parameters({"prompt": {"id": "pmpt_1"}})) == []
    assert list(missing_parameters(BASE)) == []


def test_a_misspelt_field_is_sent_but_warned_about() -> None:
    [warning] = parameter_warnings({**BASE, "max_ouput_tokens": 5, "wholly_new": 1, "store": True})
    assert warning.startswith("request.max_ouput_tokens is not a field that is known here, and is sent as it is")
    assert warning.endswith('did you mean "max_output_tokens"?')
