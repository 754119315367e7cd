from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import BadRow, SpecError
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import Row
from orchestrator.job.spec import Input, Job

from .builders import MakeJob, Write, batch_line, lines


def renderer(**request: Any) -> Renderer:
    return Renderer(Job(name="a", input=Input(path="-"), request={"model": "m", "input": "x", **request}))


def row(**data: Any) -> Row:
    return Row(0, "rows.jsonl:1", "1", data)


def rendered(data: dict[str, Any], **request: Any) -> dict[str, Any]:
    render = renderer(**request)
    render.check(row(**data))
    return render.render(render.pack(row(**data)), where="rows.jsonl:1")


def field(data: dict[str, Any], template: Any, name: str = "input") -> Any:
    return rendered(data, **{name: template})[name]


# ── What a template gives ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("no template", "no template"),
        ("{ braces } and {%", None),
        ("{{ text }}", "Tom & <Ann>"),
        ("{{ text }}\n", "Tom & <Ann>\n"),
        ("  {{ text }}", "  Tom & <Ann>"),
        ("Say: {{ text }}\n\n", "Say: Tom & <Ann>\n\n"),
        ("{{ text | upper }}", "TOM & <ANN>"),
        ("{{ n }} {{ pi }} {{ flag }}", "7 3.5 true"),
        ("{{ n + 1 }}.", "8."),
        ("{{ tags }} {{ author }}", '["a","ä"] {"name":"Ann"}'),
        ("{{ tags | tojson }}!", '["a","ä"]!'),
        ("{{ author | tojson(indent=2) }}!", '{\n  "name": "Ann"\n}!'),
        ("{{ author.name }} {{ author['name'] }}", "Ann Ann"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }} {% endfor %}", "1a 2ä "),
        ("{# a note #}{{ text }}", "Tom & <Ann>"),
        ("{{ missing | default('none given') }}", "none given"),
        ("{% if missing is defined %}a{% else %}b{% endif %}", "b"),
        ('{{ nothing or "" }}.', "."),
        ('{{ row["Full Name"] }}', "Ann Other"),
        ('{{ row["Full Name"] }} & {{ row["text"] }}', "Ann Other & Tom & <Ann>"),
        ("{% for name in row %}{{ name }},{% endfor %}", "text,n,pi,flag,tags,author,nothing,Full Name,"),
        ("{{- text -}}", "Tom & <Ann>"),
        ("{{ '{{' }} x", "{{ x"),
    ],
)
def test_text(template: str, expected: str | None) -> None:
    data = {
        "text": "Tom & <Ann>",
        "n": 7,
        "pi": 3.5,
        "flag": True,
        "tags": ["a", "ä"],
        "author": {"name": "Ann"},
        "nothing": None,
        "Full Name": "Ann Other",
    }
    if expected is None:
        with pytest.raises(ValueError, match="is not a valid template"):
            renderer(input=template)
    else:
        assert field(data, template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ n }}", 7),
        ("{{ -n }}", -7),
        ("{{ n / 2 }}", 3.5),
        ("{{ true }}", True),
        ("{{\n  n\n}}", 7),
        ("{{ flag }}", True),
        ("{{ nothing }}", None),
        ("{{ tags }}", ["a", "b"]),
        ("\n  {{ tags }}\n", ["a", "b"]),
        ("{{- tags -}}", ["a", "b"]),
        ("{{ author }}", {"name": "Ann"}),
        ("{{ [n, text] }}", [7, "x"]),
        ("{{ (n, text) }}", [7, "x"]),
        ("{{ tags | map('upper') | list }}", ["A", "B"]),
        ("{{ {'role': 'user', 'content': text} }}", {"role": "user", "content": "x"}),
        ("{{ text | int }}", 0),
        ("{{ digits | int }}", 300),
        ("{{ digits }}", "300"),
        ("{{ n }} ", 7),
        ("{{ n }}{{ n }}", "77"),
        ('{{ "}}" }}', "}}"),
        ('{{ row["n"] }}', 7),
    ],
)
def test_a_single_expression_keeps_what_is_not_text(template: str, expected: Any) -> None:
    data = {"n": 7, "flag": True, "nothing": None, "tags": ["a", "b"], "author": {"name": "Ann"}, "text": "x"}
    value = field({**data, "digits": "300"}, template, "a_field")
    assert value == expected
    assert type(value) is type(expected)


def test_templates_at_any_depth() -> None:
    request = {
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "On {{ topic }}"}]},
        ],
        "reasoning": {"effort": "{{ effort }}"},
        "metadata": {"topic": "{{ topic }}", "n": "{{ n }}", "team": "research"},
        "tools": [{"type": "file_search", "vector_store_ids": "{{ stores }}"}],
        "max_output_tokens": "{{ n }}",
    }
    data = {"topic": "tea", "effort": "low", "n": 99, "stores": ["vs_1"]}
    assert rendered(data, **request) == {
        "model": "m",
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "On tea"}]},
        ],
        "reasoning": {"effort": "low"},
        "metadata": {"topic": "tea", "n": "99", "team": "research"},
        "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
        "max_output_tokens": 99,
    }


def test_the_fields_keep_their_order() -> None:
    assert list(rendered({"a": "1"}, b="{{ a }}", c=1, d="{{ a }}")) == ["model", "input", "b", "c", "d"]


def test_the_text_of_a_row_is_never_a_template() -> None:
    assert field({"text": "{{ 7 * 7 }} {% for %}"}, "Say {{ text }}") == "Say {{ 7 * 7 }} {% for %}"
    assert field({"text": "{{ 7 * 7 }}"}, "{{ text }}") == "{{ 7 * 7 }}"


def test_rows_do_not_see_each_other() -> None:
    render = renderer(input="{% set ns = namespace(n=0) %}{% set ns.n = ns.n + n %}{{ ns.n }}")
    texts = [render.render(render.pack(row(n=1)), where="")["input"] for _ in range(2)]
    assert texts == ["1", "1"]


# ── What is kept of a row ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("constant", frozenset()),
        ("{{ a }} {{ b.c }}", frozenset({"a", "b"})),
        ("{% for x in a %}{{ x }}{% endfor %}", frozenset({"a"})),
        ("{% set x = 1 %}{{ x }}", frozenset()),
        ('{{ row["Full Name"] }}{{ a }}', frozenset({"Full Name", "a"})),
        ("{{ row[a] }}", None),
        ("{{ row.items() }}", None),
        ("{{ row }}", None),
    ],
)
def test_only_the_columns_that_are_read_are_kept(template: str, columns: frozenset[str] | None) -> None:
    assert renderer(input=template).columns == columns


def test_a_packed_row_is_compact_json_of_its_columns() -> None:
    render = renderer(input="{{ b }}{{ a }}{{ missing | default(1) }}")
    assert orjson.loads(render.pack(row(a="ä", b=[1], c="not kept"))) == {"a": "ä", "b": [1]}
    assert b" " not in render.pack(row(a="ä", b=[1]))
    assert orjson.loads(renderer(input="{{ row }}").pack(row(a=1, b=2))) == {"a": 1, "b": 2}


any_text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values, other=any_text)
def test_packing_loses_nothing_that_rendering_needs(value: Any, other: str) -> None:
    fields = rendered(
        {"value": value, "other": other, "unused": 1}, a="{{ value }}", b="[{{ other }}]", c="{{ row }}"
    )
    assert fields["a"] == value
    assert fields["b"] == f"[{other}]"
    assert fields["c"] == {"value": value, "other": other, "unused": 1}


# ── Rows that cannot be rendered ──────────────────────────────────────────────────────────────────────────────


def refusal(render: Renderer, **data: Any) -> str:
    """The refusal, which checking ahead and rendering later must agree on."""
    with pytest.raises(BadRow) as checked:
        render.check(row(**data))
    with pytest.raises(BadRow) as later:
        render.render(render.pack(row(**data)), where="rows.jsonl:1")
    assert later.value.message.partition(";")[0] == checked.value.message.partition(";")[0]
    assert checked.value.where == "rows.jsonl:1"
    return checked.value.message


@pytest.mark.parametrize("template", ["{{ text }}", "Say: {{ text }}", "{{ text | trim }}", '{{ row["text"] }}.'])
def test_a_missing_column(template: str) -> None:
    render = renderer(input=template)
    assert refusal(render, txet="CANARY") == 'request.input: the row has no column "text"; did you mean "txet"?'
    assert refusal(render, a=1, b=2) == 'request.input: the row has no column "text"; its columns are: a, b'


@pytest.mark.parametrize(
    ("template", "data", "message"),
    [
        ("{{ a.b }}", {"a": {"c": "CANARY"}}, "the template reads a field that this row does not have"),
        ("{{ a[b] }}", {"a": {}, "b": "CANARY"}, "the template reads a field that this row does not have"),
        ("{{ a / b }}", {"a": 1, "b": 0}, "the template fails for this row (ZeroDivisionError)"),
        ("{{ a + b }}", {"a": "CANARY", "b": 1}, "the template fails for this row (TypeError)"),
        ("Say {{ a }}", {"a": None}, 'the column "a" is null where the template inserts text'),
        ("Say {{ a.b }}", {"a": {"b": None}}, "a value is null where the template inserts text"),
        ("{{ a.__class__ }}.", {"a": "CANARY"}, "the template does something that is not allowed in a template"),
        ("{{ a.append(1) }}.", {"a": ["CANARY"]}, "the template does something that is not allowed in a template"),
        ("{{ a | map('upper') }}", {"a": ["CANARY"]}, "the template gives something that JSON cannot hold"),
        ("{{ range(10**9) | list }}", {}, "the template fails for this row (OverflowError)"),
    ],
)
def test_a_template_that_fails(template: str, data: dict[str, Any], message: str) -> None:
    text, _, _ = refusal(renderer(input=template), **data).partition(";")
    assert text == f"request.input: {message}"


@pytest.mark.parametrize(
    ("request_", "data", "message"),
    [
        ({"input": "{{ a }}"}, {"a": None}, "request.input: must be text or a list of input items"),
        ({"input": "{{ a }}"}, {"a": {"role": "user"}}, "request.input: must be text or a list of input items"),
        ({"input": "{{ a }}"}, {"a": 5}, "request.input: must be text or a list of input items"),
        ({"model": "{{ a }}"}, {"a": 5}, "request.model: must be the name of a model"),
        (
            {"max_output_tokens": "{{ a }}"},
            {"a": 5},
            "request.max_output_tokens: must be a whole number of at least 16",
        ),
        (
            {"max_output_tokens": "{{ a }}"},
            {"a": "99"},
            "request.max_output_tokens: must be a whole number of at least 16",
        ),
        (
            {"max_output_tokens": "{{ a }}9"},
            {"a": 9},
            "request.max_output_tokens: must be a whole number of at least 16",
        ),
        ({"temperature": "{{ a }}"}, {"a": "0.5"}, "request.temperature: must be a number"),
        (
            {"metadata": {"k": "{{ a }}"}},
            {"a": "CANARY" * 100},
            "request.metadata.k: may have at most 512 characters",
        ),
        ({"store": "{{ a }}"}, {"a": False}, "request.store: must be true: a background response"),
    ],
)
def test_what_a_row_makes_of_the_request_is_judged_too(
    request_: dict[str, Any], data: dict[str, Any], message: str
) -> None:
    assert refusal(renderer(**request_), **data).startswith(message)


@given(
    template=st.sampled_from(["{{ a }}", "x {{ a }}", "{{ a.b }}", "{{ a[b] }}", "{{ a / b }}", "{{ a | int + b }}"]),
    values=st.dictionaries(st.sampled_from("abc"), st.sampled_from([None, 0, "CANARY", ["CANARY"], {"CANARY": 1}])),
)
def test_a_refusal_never_repeats_the_row(template: str, values: dict[str, Any]) -> None:
    try:
        renderer(input=template).check(row(**values))
    except BadRow as error:
        text = str(error)
    else:
        text = ""
    assert "CANARY" not in text


def test_a_wrong_template_is_refused_without_the_text_around_it() -> None:
    with pytest.raises(
        ValueError, match="is not a valid template: expected token 'end of print statement'"
    ) as caught:
        renderer(input="{{ text CANARY }}")
    assert "CANARY" not in str(caught.value).partition("[type=")[0]


def test_what_jinja_supplies_is_no_column() -> None:
    message = refusal(renderer(input="{{ range(2) | list }}{{ a.b }}"), a={})
    assert message == "request.input: the template reads a field that this row does not have"


def test_a_loop_is_bounded() -> None:
    assert "OverflowError" in refusal(renderer(input="{% for i in range(10**7) %}x{% endfor %}"))


# ── OpenAI batch files ────────────────────────────────────────────────────────────────────────────────────────


def batch(make_job: MakeJob, write: Write, request: dict[str, Any] | None = None) -> Renderer:
    write("batch.jsonl", lines(batch_line()))
    return Renderer(make_job(path="batch.jsonl", request=request or {}))


def test_the_body_of_a_batch_line_is_the_request(make_job: MakeJob, write: Write) -> None:
    render = batch(make_job, write)
    body = {"model": "m", "input": "{{ not a template }}", "metadata": {"a": "b"}}
    line = row(custom_id="a", body=body)
    render.check(line)
    assert (render.columns, render.carries_requests) == (None, True)
    assert render.render(render.pack(line), where="") == body


def test_fields_of_the_job_replace_those_of_each_line(make_job: MakeJob, write: Write) -> None:
    render = batch(make_job, write, {"model": "gpt-5", "safety_identifier": "row-{{ custom_id }}"})
    line = row(custom_id="a", body={"model": "m", "input": "x"})
    assert render.render(render.pack(line), where="") == {
        "model": "gpt-5",
        "input": "x",
        "safety_identifier": "row-a",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "m", "messages": "CANARY"}, "body.messages: the Responses API has no such parameter"),
        ({"model": "m", "input": "x", "store": False}, "body.store: must be true"),
        ({"model": "m", "input": {"a": "CANARY"}}, "body.input: must be text or a list of input items"),
        ({"input": "CANARY"}, "body.model: is required"),
        ({"model": "m"}, "body.input: is required"),
        ({"model": "m", "input": "x", "max_output_tokens": "{{ n }}"}, "body.max_output_tokens: must be a whole"),
    ],
)
def test_a_body_that_cannot_work(make_job: MakeJob, write: Write, body: dict[str, Any], message: str) -> None:
    text = refusal(batch(make_job, write), custom_id="a", body=body)
    assert text.startswith(message)
    assert "CANARY" not in text


def test_a_renderer_needs_a_model_and_an_input() -> None:
    with pytest.raises(SpecError, match=r"request\.input: is required"):
        Renderer(Job(name="a", input=Input(path="-"), request={"model": "m"}))


def test_store_false_is_refused_in_the_job_in_a_row_and_in_a_line_unless_the_provider_allows_it(
    make_job: MakeJob, write: Write
) -> None:
    message = r"request\.store: must be true: a background response that is not stored cannot be fetched"
    with pytest.raises(SpecError, match=message):
        renderer(store=False)
    assert refusal(renderer(store="{{ kept }}"), kept=False).startswith("request.store: must be true")
    write("rows.jsonl", lines({"kept": False}))
    job = make_job(request={"model": "m", "input": "x", "store": "{{ kept }}"})
    allowed = Renderer(job, may_be_unstored=True)
    line = row(kept=False)
    allowed.check(line)
    assert allowed.render(allowed.pack(line), where="")["store"] is False
    write("batch.jsonl", lines(batch_line()))
    batches = Renderer(make_job(path="batch.jsonl", request={}), may_be_unstored=True)
    batches.check(row(custom_id="a", body={"model": "m", "input": "x", "store": False}))


def test_a_field_of_a_row_is_judged_together_with_the_constant_ones() -> None:
    render = renderer(previous_response_id="{{ before }}", conversation="conv_1")
    render.check(row(before=None))
    assert refusal(render, before="resp_1").startswith(
        "request.previous_response_id: cannot be used together with conversation"
    )
