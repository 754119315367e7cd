"""Thousands of job, config and price files, each damaged by a seeded fuzzer: read, or refused by name."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import load_config
from orchestrator.core.errors import OrchestratorError
from orchestrator.job.documents.document import load_document
from orchestrator.job.spec import load_job
from orchestrator.policy.pricing.price_file import PriceFile

_JOB = """\
name: speeches
input: {path: rows.jsonl, key: id, limit: 10}
request:
  model: gpt-5-mini
  instructions: |
    Summarise.
  input: "Summarise {{ text | trim }} {% for i in items %}{{ i }}{% endfor %}"
  max_output_tokens: "{{ n | int }}"
  temperature: 0.5
  metadata: {project: speeches}
  text:
    format:
      type: json_schema
      name: s
      strict: true
      schema:
        type: object
        properties: {a: {type: string}, b: {type: array, items: {type: integer}}}
        required: [a, b]
        additionalProperties: false
retry: {attempts: 3}
tool_timeout: 90s
budget: {usd: 5.50}
output: results/x.jsonl
"""
_CONFIG = """\
provider:
  base_url: https://api.example.com/v1
  api_key_env: OPENAI_API_KEY
  headers: {X-Team: blue}
limits: {requests_per_minute: 500, tokens_per_minute: 200000, max_in_flight: 100}
timeouts: {connect: 5s, read: 1m30s}
budget: {usd_per_day: 20, confirm_above_usd: 5}
database: runs.db
"""
_PRICES = """\

prices:
  - {model: gpt-5-mini, input: 0.25, cached: 0.025, output: 2.00}
"""
_ODD = [
    "1e99999999999999999999",
    '"\\UFFFFFFFF"',
    '"\\uD800"',
    '"\\uD83D\\uDE00"',
    "9" * 400,
    "9" * 5_000,
    "9" * 400 + "s",
    '"a\\0b"',
    "0x" + "f" * 5_000,
    "-1",
    "1e400",
    ".nan",
    "-.inf",
    "!!python/object:os.system x",
    "!!binary zz",
    "!!int x",
    "!!float z",
    "!!set {a}",
    "[" * 500 + "]" * 500,
    "{a: " * 300 + "1" + "}" * 300,
    "'{{ " + "(" * 3_000 + ")" * 3_000 + " }}'",
    "'{{ \"{:>999999999}\".format(1) }}'",
    "'{{ \"x\" * 10**9 }}'",
    "\"{{ 'x' | center(10**9) }}\"",
    "'{% for i in range(10**9) %}x{% endfor %}'",
    "&a [*a]",
    "*nothing",
    "? {a: b} : c",
    "'" + "x" * 100_000 + "'",
    "/" + "a" * 5_000,
    "../../../../etc/passwd",
    "null",
    "true",
    "''",
    "[]",
    "{}",
    "2026-11-21",
    "12:30:45",
    "<<: {a: 1}",
    "\x1b[2J",
    "\x85",
    "\ufeff",
    "\u202e",
    "*.jsonl",
    "[*.jsonl",
    "-",
    "%s",
    "{{ text",
    "{% raw %}",
    "{{ row[",
    "{{ x is }}",
    "$schema",
    "=",
]


def bombed(rng: random.Random, text: str) -> str:
    levels = rng.randint(5, 40)
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, levels))
    return bomb + text


def flipped(rng: random.Random, text: str) -> str:
    damaged = bytearray(text.encode())
    for _ in range(rng.randint(1, 6)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return damaged.decode("latin-1")


def with_odd_value(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    name, colon, _ = lines[at].partition(":")
    lines[at] = f"{name}{colon} {rng.choice(_ODD)}" if colon else rng.choice(_ODD)
    return "\n".join(lines)


def with_odd_inline_value(rng: random.Random, text: str) -> str:
    places = [at for at, sign in enumerate(text) if sign in ":,["]
    at = rng.choice(places or [0]) + 1
    return f"{text[:at]} {rng.choice(_ODD)} {text[at:].lstrip('abcdefghijklmnopqrstuvwxyz0123456789 ')}"


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) or 1)]


def moved(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    rng.shuffle(lines)
    return "\n".join(" " * rng.randint(0, 3) + line if rng.random() < 0.2 else line for line in lines)


def repeated(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + text[at : at + rng.randint(1, 9)] * rng.choice([2, 50, 2_000]) + text[at:]


MUTATIONS: list[Callable[[random.Random, str], str]] = [
    bombed, flipped, with_odd_value, with_odd_value, with_odd_inline_value, cut, moved, repeated,
]  # fmt: skip


def read(kind: str, path: Path) -> str:
    """How reading a file ends; anything but an error of ours fails the test."""
    try:
        match kind:
            case "job":
                load_job(path)
            case "config":
                load_config(path, environ={}).price_rules()
            case _:
                load_document(path, PriceFile, kind="prices").rules(source="p", version="v")
    except OrchestratorError as error:
        words = str(error)
    else:
        return "read"
    assert path.name in words, words
    assert len(words) < 20_000
    return "refused"


def fuzz(folder: Path, count: int, seed: int) -> None:
    rng, ends = random.Random(seed), Counter[str]()
    (folder / "rows.jsonl").write_text('{"id": "a", "text": "x", "items": [], "n": "20"}\n')
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = {"job": _JOB, "config": _CONFIG, "prices": _PRICES}
    for number in range(count):
        kind = rng.choice(["job", "job", "config", "prices"])
        text = files[kind]
        for _ in range(rng.choice([1, 1, 2])):
            text = rng.choice(MUTATIONS)(rng, text) or "a"
        path = folder / f"{kind}.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        began = time.thread_time()
        try:
            ends[f"{kind} {read(kind, path)}"] += 1
        except Exception as error:
            raise AssertionError(f"file {number} of seed {seed} ({kind}): {text[:2_000]!r}") from error
        slowest = max(slowest, time.thread_time() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"{count} files, seed {seed}: {dict(ends)}, at most {slowest:.2f} s of CPU, {grown} MB more")  # noqa: T201
    assert slowest < 2
    assert grown < 300
    assert set(ends) == {f"{kind} {end}" for kind in files for end in ("read", "refused")}


def test_two_hundred_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, 200, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_five_thousand_damaged_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    fuzz(tmp_path, 1_000, 100 + seed)
