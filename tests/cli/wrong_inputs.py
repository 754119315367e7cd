"""Wrong inputs of a newcomer and what is said of them, as one page to read: ``python -m tests.cli.wrong_inputs``."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from orchestrator.cli.app import invoke

PAGE = Path(__file__).with_name("wrong_inputs.txt")

_ROWS = '{"id": "a", "text": "Some text.", "n": 5}\n{"id": "b", "text": "More text.", "n": 6}\n'
_HEAD = "name: speeches\ninput: {path: rows.jsonl, key: id}\n"
_REQUEST = "request:\n  model: gpt-5-mini\n  input: '{{ text }}'\n  max_output_tokens: 100\n"
_GOOD = _HEAD + _REQUEST

# The job file of each, checked by a dry run.
JOBS: dict[str, str] = {
    "a budget without its unit": _GOOD + "budget: 5\n",
    "an amount with its sign": _GOOD + "budget: {usd: $5}\n",
    "a line that is indented too far": _HEAD + "request:\n  model: gpt-5-mini\n   input: '{{ text }}'\n",
    "a line that is indented too little": _HEAD + "request:\n    model: gpt-5-mini\n  input: '{{ text }}'\n",
    "a list that is indented too little": _HEAD
    + "request:\n  model: m\n  input:\n    - role: user\n     content: x\n",
    "a tab": _HEAD + "request:\n\tmodel: gpt-5-mini\n",
    "a colon in a text": _HEAD + "request:\n  model: gpt-5-mini\n  instructions: Answer: yes or no\n",
    "a template without quotes": _HEAD + "request:\n  model: gpt-5-mini\n  input: {{ text }}\n",
    "a quote that is not closed": _HEAD + "request:\n  model: gpt-5-mini\n  input: '{{ text }}\n",
    "a bracket that is not closed": "name: speeches\ninput: {path: rows.jsonl, key: id\n" + _REQUEST,
    "a misspelt field": _HEAD + _REQUEST.replace("request", "reqest"),
    "a misspelt parameter": _HEAD + _REQUEST.replace("max_output_tokens", "max_tokens"),
    "a field given twice": _GOOD + "name: other\n",
    "no request": _HEAD,
    "no input": "name: speeches\n" + _REQUEST,
    "an input that is a text": "name: speeches\ninput: rows.jsonl\n" + _REQUEST,
    "an input that is not there": _GOOD.replace("rows.jsonl", "row.jsonl"),
    "a name with a space": _GOOD.replace("name: speeches", "name: My Speeches"),
    "a duration without a unit that exists": _GOOD + "deadline: 5 parsecs\n",
    "a retry that is a number": _GOOD + "retry: 3\n",
    "a key column that is not there": _GOOD.replace("key: id", "key: ident"),
    "a misspelt column": _GOOD.replace("{{ text }}", "{{ txet }}"),
    "a misspelt filter": _GOOD.replace("{{ text }}", "{{ text | uper }}"),
    "a misspelt method": _GOOD.replace("{{ text }}", "{{ text.uper() }}"),
    "a field that no row has": _GOOD.replace("{{ text }}", "{{ text.title.short }}"),
    "a template that is not closed": _GOOD.replace("{{ text }}", "{{ text }"),
    "a loop that is not closed": _GOOD.replace("{{ text }}", "{% for i in text %}{{ i }}"),
    "a parameter of another kind": _GOOD.replace("100", "many"),
    "a number too small": _GOOD.replace("100", "1"),
    "a template of another kind": _GOOD.replace("100", "'{{ text }}'"),
    "an output of a kind that is not known": _GOOD + "output: results.xlsx\n",
    "a handler from elsewhere": _GOOD + "handlers: {sh: 'subprocess:getoutput'}\n",
    "an exponent without a bound": _GOOD.replace("100", "1e99999999999999999999"),
    "a bomb": _GOOD.replace("{{ text }}", "{{ text * 10 ** 9 }}"),
    "an empty file": "",
    "a list": "- name: speeches\n",
}


def page() -> str:
    """Each wrong input with its message."""
    parts = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("rows.jsonl").write_text(_ROWS)
        Path("config.yaml").write_text("provider: {sandbox: {}}\n")
        for title, job in JOBS.items():
            Path("job.yaml").write_text(job)
            code, said = _said("run", "job.yaml", "--config", "config.yaml", "--dry-run")
            different = "".join(f"    {line}\n" for line in job.splitlines())
            parts.append(f"{title}\n\n{different}\n{said.rstrip()}\n(exit code {code})\n")
    return f"\n{'─' * 80}\n".join(parts)


def _said(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = invoke(arguments)
    return int(code), said.getvalue()


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    PAGE.write_text(page())
    print(f"written: {PAGE.name}")  # noqa: T201
