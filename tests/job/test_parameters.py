from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.executors.background import ATTEMPT, KEY, RUN, create_body
from orchestrator.job.requests.parameters import (
    PARAMETERS,
    WRONG_PARAMETERS,
    missing_parameters,
    parameter_problems,
    parameter_warnings,
    store_problems,
)
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import Input, Job

BASE = {"model": "gpt-5-mini", "input": "Hello"}


def found(**fields: Any) -> list[tuple[str, str]]:
    problems = parameter_problems({**BASE, **fields})
    return [(".".join(map(str, problem.field)), problem.message) for problem in problems]


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
        ("extra_query", "provider.query"),
        ("n", "one answer"),
        ("stream_options", "needs no options"),
        ("logprobs", "use top_logprobs"),
        ("web_search_options", "use tools: [{type: web_search}]"),
        ("text_format", "use output_model"),
        ("extra_body", "straight under request"),
        ("extra_headers", "provider.headers"),
        ("timeout", "timeouts of the config"),
    ],
)
def test_well_known_wrong_parameters_are_refused_with_the_right_form(name: str, remedy: str) -> None:
    [problem] = parameter_problems({**BASE, name: 1})
    assert problem.field == (name,)
    assert problem.message == "the Responses API has no such parameter"
    assert remedy in (problem.hint or "")


def test_every_wrong_parameter_is_tested() -> None:
    marks = test_well_known_wrong_parameters_are_refused_with_the_right_form.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} == WRONG_PARAMETERS.keys()
    assert not WRONG_PARAMETERS.keys() & PARAMETERS.keys()


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"stream": True}, "stream", "cannot be used in a background run: answers are fetched by polling"),
        ({"store": "no"}, "store", "must be true or false"),
        ({"background": False}, "background", "must be true: every request of a run is a background response"),
        ({"background": "yes"}, "background", "must be true or false"),
        ({"previous_response_id": 5}, "previous_response_id", "must be the id of a response"),
        ({"conversation": ["conv_1"]}, "conversation", "must be the id of a conversation, or {id: …}"),
        ({"conversation": {"metadata": {}}}, "conversation", "must be the id of a conversation, or {id: …}"),
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
        ({"temperature": 2.1}, "temperature", "must be from 0 to 2"),
        ({"top_p": True}, "top_p", "must be a number"),
        ({"top_p": -0.1}, "top_p", "must be from 0 to 1"),
        ({"top_logprobs": 21}, "top_logprobs", "must be a whole number from 0 to 20"),
        ({"top_logprobs": 2.5}, "top_logprobs", "must be a whole number from 0 to 20"),
        ({"max_tool_calls": 0}, "max_tool_calls", "must be a whole number of at least 1"),
        ({"parallel_tool_calls": "true"}, "parallel_tool_calls", "must be true or false"),
        ({"reasoning": "low"}, "reasoning", "must be a mapping such as {effort: low}"),
        ({"moderation": True}, "moderation", "must be a mapping such as {model: …}"),
        (
            {"include": "reasoning.encrypted_content"},
            "include",
            "must be a list such as [reasoning.encrypted_content]",
        ),
        ({"service_tier": 1}, "service_tier", "must be text"),
        ({"safety_identifier": "u" * 129}, "safety_identifier", "may have at most 128 characters"),
        ({"prompt_cache_key": 7}, "prompt_cache_key", "must be text"),
        ({"prompt_cache_options": "explicit"}, "prompt_cache_options", "must be a mapping such as {mode: explicit}"),
        ({"model": 5}, "model", "must be the name of a model"),
        ({"model": ""}, "model", "must be the name of a model"),
        ({"input": {"role": "user"}}, "input", "must be text or a list of input items"),
        ({"input": None}, "input", "must be text or a list of input items"),
        ({"input": ["Hello"]}, "input.0", "must be an input item such as {role: user, content: …}"),
        ({"input": [{"role": "user"}]}, "input.0", "needs content"),
        (
            {"input": [{"role": "tool", "tool_call_id": "call_1", "content": "5"}]},
            "input.0.role",
            "is the form of chat completions",
        ),
        (
            {"input": [{"role": "assistant", "tool_calls": []}]},
            "input.0.tool_calls",
            "is the form of chat completions",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "image_url"}]}]},
            "input.0.content.1.type",
            "is the form of chat completions",
        ),
        ({"instructions": ["a"]}, "instructions", "must be text"),
        ({"prompt": "Say hello"}, "prompt", "must name a stored prompt: {id: …}"),
        ({"prompt": {"version": "2"}}, "prompt", "must name a stored prompt: {id: …}"),
        ({"prompt_cache_retention": "in-memory"}, "prompt_cache_retention", "must be in_memory or 24h"),
        ({"tools": {"type": "web_search"}}, "tools", "must be a list of tools"),
        (
            {"tools": [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}]},
            "tools.1.function",
            "is the form of chat completions",
        ),
        ({"tools": [{"type": "file_search"}]}, "tools.0", "file_search needs vector_store_ids"),
        ({"tools": [{"type": "computer_use"}]}, "tools.0.type", "there is no tool computer_use"),
        ({"tools": ["web_search"]}, "tools.0", "must be a tool with a type, such as {type: web_search}"),
        ({"tools": [{"name": "f"}]}, "tools.0", "must be a tool with a type, such as {type: web_search}"),
        ({"tools": [{"type": "function", "parameters": {}}]}, "tools.0", "function needs name"),
        ({"tools": [{"type": "custom"}]}, "tools.0", "custom needs name"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0", "code_interpreter needs container"),
        ({"tools": [{"type": "mcp", "server_url": "https://example.org"}]}, "tools.0", "mcp needs server_label"),
        (
            {"tools": [{"type": "computer_use_preview", "environment": "linux"}]},
            "tools.0",
            "computer_use_preview needs display_width, display_height",
        ),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": ["x"]}]},
            "tools.0.parameters",
            "must be a JSON Schema: a mapping such as {type: object, properties: {…}}",
        ),
        (
            {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name",
            "names a tool that tools does not have",
        ),
        (
            {"tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name",
            "names a tool that tools does not have",
        ),
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
        ({"text": "Say hello"}, "text", "must be a mapping such as {format: …, verbosity: low}"),
        ({"text": {"format": "json_schema"}}, "text.format", "must be a mapping"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "is required"),
        (
            {"text": {"format": {"type": "json_schema", "schema": {}, "name": "my answer"}}},
            "text.format.name",
            "must be 1 to 64 letters, digits, _ or -",
        ),
        (
            {"text": {"format": {"type": "json_schema", "schema": {}, "name": "a" * 65}}},
            "text.format.name",
            "must be 1 to 64 letters, digits, _ or -",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", "is required"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": []}}},
            "text.format.schema",
            "must be a JSON Schema: a mapping such as {type: object, properties: {…}}",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": "yes"}}},
            "text.format.strict",
            "must be true or false",
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
        {"temperature": 2, "top_p": 0, "top_logprobs": 20, "max_tool_calls": 1},
        {"store": False},
        {"reasoning": {"effort": "a word of next month"}, "service_tier": "a tier of next month"},
        {"include": ["message.output_text.logprobs"], "safety_identifier": "u" * 128, "prompt_cache_key": "k"},
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"input": [{"role": "user", "content": "Hello"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}, "{{ part }}"]}]},
        {"input": ["{{ item }}", {"type": "item_reference", "id": "msg_1"}, {"type": "an item of next month"}]},
        {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "5"}]},
        {"prompt": {"id": "pmpt_1"}},
        {"prompt_cache_retention": "24h"},
        {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}, "{{ tool }}"]},
        {"tool_choice": "auto"},
        {"tools": [{"type": "custom", "name": "c"}], "tool_choice": {"type": "custom", "name": "c"}},
        {"tools": "{{ tools }}", "tool_choice": {"type": "function", "name": "f"}},
        {"tools": ["{{ tool }}"], "tool_choice": {"type": "function", "name": "f"}},
        {"tool_choice": {"type": "mcp", "server_label": "s", "name": "n"}},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}, {"type": "a_tool_of_next_month"}]},
        {"text": {"format": {"type": "json_object"}}},
        {"text": {"format": {"type": "a_format_of_next_month"}}},
        {"text": {"verbosity": "low"}},
        {"text": None, "tools": None, "background_options": None, "reasoning": None, "prompt": None},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}, "verbosity": "low"}},
        {"background_options": {"completion_window": "8h"}, "service_tier": "default"},
        {"background_options": {"completion_window": "soonest"}, "service_tier": "flex"},
        {"frequency_penalty": 0.5, "a_field_of_next_month": {"any": ["thing"]}},
    ],
)
def test_what_may_work_is_let_through(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


def test_what_is_not_stored_is_refused_with_the_way_out() -> None:
    [problem] = store_problems({"store": False})
    assert problem.field == ("store",)
    assert problem.message == "must be true: a background response that is not stored cannot be fetched"
    assert "provider.store: optional" in (problem.hint or "")
    assert [*store_problems({}), *store_problems({"store": None}), *store_problems({"store": True})] == []


def test_only_the_fields_asked_for_are_judged_but_each_in_its_whole_request() -> None:
    request = {"previous_response_id": "resp_1", "conversation": "conv_1", "max_output_tokens": 1}
    found = parameter_problems(request, names={"previous_response_id"})
    assert [problem.field for problem in found] == [("previous_response_id",)]


def test_a_template_is_judged_only_with_a_row() -> None:
    request = {"max_output_tokens": "{{ n }}", "input": "{{ messages }}", "metadata": "{{ m }}", "tools": "{{ t }}"}
    assert list(parameter_problems(request)) == []
    rendered = {"max_output_tokens": 5, "metadata": {"k": "{{" + "x" * 520}}
    assert [problem.field for problem in parameter_problems(rendered, templates=False)] == [
        ("max_output_tokens",),
        ("metadata", "k"),
    ]


def test_no_problem_repeats_a_value() -> None:
    canary = "CANARY"
    request: dict[str, Any] = dict.fromkeys((*PARAMETERS, *WRONG_PARAMETERS, "stream"), canary)
    request |= {"metadata": {"k": canary * 100}, "tools": [{"type": "function", "function": {"name": canary}}]}
    problems = list(parameter_problems(request))
    assert problems
    assert not any(canary in f"{problem.message}{problem.hint}" for problem in problems)


def test_model_and_input_are_needed_unless_a_stored_prompt_supplies_them() -> None:
    assert [problem.field for problem in missing_parameters({})] == [("model",), ("input",)]
    assert list(missing_parameters({"prompt": {"id": "pmpt_1"}})) == []
    assert list(missing_parameters(BASE)) == []


def test_a_misspelt_field_is_sent_but_warned_about() -> None:
    [warning] = parameter_warnings({**BASE, "max_ouput_tokens": 5, "wholly_new": 1, "store": True})
    assert warning.startswith("request.max_ouput_tokens is not a field that is known here, and is sent as it is")
    assert warning.endswith('did you mean "max_output_tokens"?')


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
def test_one_conversation_for_all_rows_is_warned_about(conversation: object) -> None:
    [warning] = parameter_warnings({**BASE, "conversation": conversation})
    assert "answered one at a time" in warning
    assert list(parameter_warnings({**BASE, "conversation": "{{ conversation }}"})) == []


def test_every_field_is_sent_as_it_was_written() -> None:
    every: dict[str, Any] = {name: f"{{{{ {name} }}}}" for name in PARAMETERS}
    every |= {"of_next_month": {"a": [1, None]}, "metadata": {"a": "{{ user }}"}}
    mappings = ("background_options", "moderation", "reasoning", "prompt_cache_options", "text")
    columns: dict[str, Any] = {
        **dict.fromkeys(PARAMETERS, "text"),
        **dict.fromkeys(("temperature", "top_p"), 0.5),
        **dict.fromkeys(("max_output_tokens", "max_tool_calls", "top_logprobs"), 16),
        **{name: {"a": "b"} for name in mappings},
        **{name: [] for name in ("tools", "include", "context_management")},
        "parallel_tool_calls": False,
        "prompt": {"id": "pmpt_1"},
        "conversation": None,
    }
    render = Renderer(Job(name="a", input=Input(path="-"), request=every))
    fields = render.render(orjson.dumps(columns), where="")
    sent = orjson.loads(create_body(fields, run_uid="r", key="k", number=1))
    metadata = {"a": "text", RUN: "r", KEY: "k", ATTEMPT: "1"}
    others = {"of_next_month": {"a": [1, None]}, "background": True, "store": True}
    assert sent == {**columns, "metadata": metadata, **others}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "gpt-6.1-terra", "temperature": 0}, "request.temperature is refused by models that reason"),
        ({"model": "gpt-5-mini", "top_p": 0.5}, "request.top_p is refused by models that reason, such as gpt-5-mini"),
        ({"model": "o3", "temperature": 1}, "request.temperature is refused"),
        ({"model": "gpt-6-luna", "temperature": 1, "reasoning": {"effort": "none"}}, None),
        ({"model": "gpt-4.1", "temperature": 0}, None),
        ({"model": "gpt-5.3-chat", "temperature": 0}, None),
        ({"model": "{{ model }}", "temperature": 0}, None),
        ({"model": "my-deployment", "temperature": 0}, None),
        ({"prompt": {"id": "pmpt_1"}}, "OpenAI ended these on 2026-11-30"),
        ({"seed": 7}, "some other servers take it"),
    ],
)
def test_what_the_provider_will_refuse_is_warned_of(fields: dict[str, Any], words: str | None) -> None:
    warnings = list(parameter_warnings({**BASE, **fields}))
    assert len(warnings) == (words is not None)
    assert words is None or words in warnings[0]
    assert list(parameter_problems({**BASE, **fields})) == []
