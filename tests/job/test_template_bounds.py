"""What one template may take in time and memory; what is meant honestly works as in any Jinja."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from orchestrator.job.requests import template_bounds
from orchestrator.job.requests.expressions import BadTemplate, CannotRender, compile_expression

ROW: dict[str, Any] = {
    "x": "abc",
    "n": 10**9,
    "items": [{"name": "a", "price": 2}, {"name": "b", "price": 3}],
    "wide": "%1000000000d",
    "format": "{:>999999999}",
    "tags": "<!--" * 30_000,
    "quote": '"' * 100,
}
BEGIN = "{% set s = namespace(x=x) %}{% for i in range(60) %}"
BOMBS = {
    "repeated": "{{ x * n }}",
    "repeated list": "{{ [x] * n }}",
    "repeated from the left": "{{ n * x }}",
    "constant": "{{ 'x' * 10**9 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "power of a power": "{{ (9 ** 99) ** (9 ** 9) }}",
    "range": "{{ range(10**9) | list }}",
    "loop": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "three loops": "{% for i in range(9999) %}{% for j in range(99) %}{% for k in range(99) %}x{% endfor %}"
    "{% endfor %}{% endfor %}",
    "centered": "{{ x | center(10**9) }}",
    "centered by name": "{{ x | center(width=n) }}",
    "mapped": "{{ items | map(attribute='name') | map('center', n) | list }}",
    "indented": "{{ x | indent(n, true) }}",
    "filled": "{{ [1] | batch(n, x) | list }}",
    "sliced": "{{ [1] | slice(n) | list }}",
    "rounded": "{{ 5 | round(10**9, 'ceil') }}",
    "method": "{{ x.center(n) }}",
    "zeros": "{{ x.zfill(n) }}",
    "tabs": "{{ '\t'.expandtabs(n) }}",
    "left": "{{ x.ljust(n) }}",
    "format": "{{ '{:>999999999}'.format(x) }}",
    "format of the row": "{{ format.format(x) }}",
    "nested format": "{{ '{:>{}}'.format(x, n) }}",
    "format map": "{{ '{x:>999999999}'.format_map(row) }}",
    "percent": "{{ wide % 5 }}",
    "percent star": "{{ '%*d' % (n, 5) }}",
    "percent name": "{{ '%(n)1000000000d' % row }}",
    "format filter": "{{ wide | format(5) }}",
    "doubled": BEGIN + "{% set s.x = s.x ~ s.x %}{% endfor %}{{ s.x }}",
    "doubled by plus": BEGIN + "{% set s.x = s.x + s.x %}{% endfor %}",
    "doubled by a block": BEGIN + "{% set y %}{{ s.x }}{{ s.x }}{% endset %}{% set s.x = y %}{% endfor %}",
    "doubled lists": BEGIN + "{% set s.x = [s.x, s.x] %}{% endfor %}{{ s.x }}",
    "doubled objects": BEGIN + "{% set s.x = {'a': s.x, 'b': s.x} %}{% endfor %}"
    "{{ s.x }}",
    "doubled calls": BEGIN + "{% set s.x = dict(a=s.x, b=s.x) %}{% endfor %}"
    "{{ s.x }}",
    "doubled escapes": "{% set s = namespace(x=quote) %}{% for i in range(60) %}{% set s.x = s.x | tojson %}{% endfor %}",  # noqa: E501
    "replaced": BEGIN + "{% set s.x = s.x | replace('', s.x) %}{% endfor %}",
    "joined": "{% set y = 'y' * 1000000 %}{{ range(99999) | join(y) }}",
    "joined by a method": "{% set y = 'y' * 1000000 %}{{ y.join(['a'] * 99999) }}",
    "macro": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "macro that ends": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
    "recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "much text": "{% for i in range(99999) %}" + "text " * 500 + "{% endfor %}",
    "sorted": "{% for i in range(99999) %}{{ range(99999) | sort | sum }}{% endfor %}",
    "comments": "{{ tags | striptags }}",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_anything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_bounds, "_MOST_STEPS", 5_000)
    monkeypatch.setattr(template_bounds, "_MOST_SIZE", 2**20)
    for native in (True, False):
        assert was_refused(BOMBS[name], native=native)


@pytest.mark.long
def test_no_bomb_takes_two_seconds_or_300_megabytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = 0.0
    for text in BOMBS.values():
        began = time.thread_time()
        assert was_refused(text, native=True)
        slowest = max(slowest, time.thread_time() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"{len(BOMBS)} bombs: at most {slowest:.1f} s of CPU, {grown} MB more")  # noqa: T201
    assert slowest < 4
    assert grown < 300


def was_refused(text: str, *, native: bool) -> bool:
    try:
        compile_expression(text, native=native)(ROW | {"row": ROW})
    except (BadTemplate, CannotRender):
        return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        "{{ " + "(" * 3_000 + "x" + ")" * 3_000 + " }}",
        "{{ " + "[" * 3_000 + "]" * 3_000 + " }}",
        "{{ " + "x + " * 1_000 + "x }}",
        "{{ " + "not " * 1_000 + "x }}",
        "{{ x" + " | upper" * 1_000 + " }}",
        "{% if x %}" * 300 + "{% endif %}" * 300,
        "{{ x }} " * 12_000,
        "{{ " + "9" * 5_000 + " }}",
    ],
    ids=["brackets", "lists", "sums", "nots", "filters", "ifs", "long", "digits"],
)
def test_a_template_that_is_large_by_itself_is_refused(text: str) -> None:
    began = time.thread_time()
    with pytest.raises(BadTemplate):
        compile_expression(text, native=True)
    assert time.thread_time() - began < 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% for i in items %}{{ loop.index }}/{{ loop.length }} {{ i.name }};{% endfor %}", "1/2 a;2/2 b;"),
        ("{% for i in items if i.price > 2 %}{{ i.name }}{% else %}none{% endfor %}", "b"),
        ("{% for name, value in row['items'][0] | dictsort %}{{ name }}={{ value }};{% endfor %}", "name=a;price=2;"),
        ("{% set t = namespace(v=0) %}{% for i in items %}{% set t.v = t.v + i.price %}{% endfor %}{{ t.v }}", "5"),
        ("{% macro m(v) %}<{{ v }}>{% endmacro %}{{ m(x) }}{{ m('y') }}", "<abc><y>"),
        ("{{ x ~ 1 ~ x }}", "abc1abc"),
        ("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ '%05.2f' % 3.14159 }}", "---1024303.14"),
        ("{{ '{:>5}|{:,}'.format(x, 1000) }}", "  abc|1,000"),
        ("{{ items | map(attribute='name') | join(', ') }} {{ x | center(7) }}.", "a, b   abc  ."),
        ("{{ x | replace('b', 'BB') | indent(2, true) }}{{ 2.345 | round(2) }}", "  aBBc2.35"),
        ("{{ (items | batch(1) | list) | length }}{{ items | sum(attribute='price') }}", "25"),
        ("{{ ' '.join(['a', 'b']) }}{{ x.upper() }}{{ 'a,b'.split(',')[1] }}", "a bABCb"),
    ],
)  # fmt: skip
def test_what_is_meant_honestly_works(text: str, expected: str) -> None:
    assert compile_expression(text, native=False)(ROW | {"row": ROW}) == expected


def test_values_of_their_own_kind_stay() -> None:
    for text, expected in [("{{ [x, n] }}", ["abc", 10**9]), ("{{ {'a': items[0].price * 2} }}", {"a": 4})]:
        assert compile_expression(text, native=True)(ROW) == expected


def test_each_evaluation_has_an_account_of_its_own() -> None:
    template = compile_expression("{% for i in range(90000) %}{% endfor %}{{ x }}", native=False)
    assert [template(ROW) for _ in range(4)] == ["abc"] * 4
