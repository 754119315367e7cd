"""Files as spreadsheets, exports and other programs write them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.core.errors import BadRow, SpecError
from orchestrator.core.model import PlanMark
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows import sources
from orchestrator.job.rows.header import refuse_missing_columns
from orchestrator.job.rows.keyed_rows import Row, input_identity, open_rows
from orchestrator.job.rows.plan import plan
from orchestrator.job.rows.sources import find_sources
from orchestrator.job.spec import Input, Job

from .builders import MakeJob, Write


def rows_of(path: str, folder: Path, **fields: object) -> list[dict[str, str] | str]:
    place = Input.model_validate({"path": str(folder / path), **fields})
    job = Job(name="j", input=place, request={"model": "gpt-5-mini", "input": "{{ id }}"})
    return [row.data if isinstance(row, Row) else row.reason for row in open_rows(job)]


ONE = [{"id": "1", "text": "größer"}]


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("a.csv", "id;text\n1;größer\n", {"delimiter": ";"}),
        ("a.csv", "id\ttext\n1\tgrößer\n", {"delimiter": "tab"}),
        ("a.csv", "id|text\n1|größer\n", {"delimiter": "|"}),
        ("a.tsv", "id\ttext\n1\tgrößer\n", {}),
        ("a.TSV", "id,text\n1,größer\n", {"delimiter": ","}),
        ("a.csv.gz", "id;text\n1;größer\n", {"delimiter": ";"}),
        ("a.ndjson", '{"id": "1", "text": "größer"}\n', {}),
    ],
)
def test_files_of_spreadsheets(tmp_path: Path, name: str, text: str, given: dict[str, str]) -> None:
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert rows_of(name, tmp_path, **given) == ONE


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8"])
def test_the_encoding_of_older_programs(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n1,größer\n".encode(encoding))
    assert rows_of("a.csv", tmp_path, encoding=encoding) == ONE
    (tmp_path / "a.txt").write_bytes("größer".encode(encoding))
    assert rows_of("a.txt", tmp_path, encoding=encoding) == [
        {"name": "a.txt", "path": f"{tmp_path}/a.txt", "text": "größer"}
    ]


@pytest.mark.parametrize("text", ["Größe,text\n1,2\n", "id,text\n1,größer\n"])
def test_another_encoding_is_reported_with_what_to_write(write: Write, make_job: MakeJob, text: str) -> None:
    write("a.csv", text.encode("cp1252"))
    job = make_job(path="a.csv", request={"model": "gpt-5-mini", "input": "{{ text }}"})
    with pytest.raises((SpecError, BadRow), match="encoding: cp1252"):
        list(plan(job, Renderer(job), start=PlanMark(position=0, complete=False)))


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_delimiter_is_reported_with_what_to_write(tmp_path: Path, sign: str, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"id{sign}text\n1{sign}one\n")
    written = "tab" if sign == "\t" else f'"{sign}"'
    with pytest.raises(SpecError, match="look separated by") as caught:
        rows_of("a.csv", tmp_path)
    assert name in str(caught.value)
    assert f"delimiter: {written}" in str(caught.value)
    assert rows_of("a.csv", tmp_path, delimiter=",") == [{f"id{sign}text": f"1{sign}one"}]


@pytest.mark.parametrize(
    "given",
    [
        {"delimiter": ""},
        {"delimiter": ";;"},
        {"delimiter": "\n"},
        {"delimiter": '"'},
        {"encoding": "klingon"},
        {"encoding": "utf-16"},
    ],
)
def test_what_cannot_separate_or_encode_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Input.model_validate({"path": "a.csv", **given})


@pytest.mark.parametrize("text", ['[{"id": 1},\n {"id": 2}]', '\n  [\n{"id": 1}]'])
def test_a_json_array_is_reported_as_such(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(SpecError, match="JSON array") as caught:
        rows_of("a.jsonl", tmp_path)
    assert "jq -c" in str(caught.value)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SpecError, match="jq -c"):
        rows_of("a.json", tmp_path)


def test_a_pipe_is_refused_with_another_way(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    for path in ("a.jsonl", "/dev/null"):
        with pytest.raises(SpecError, match='path: "-"'):
            find_sources(path, tmp_path)


def test_a_name_that_is_no_utf8_is_a_key_all_the_same(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"caf\xe8.txt", "größe.txt".encode()):
        (tmp_path / os.fsdecode(name)).write_text("x")
    request = {"model": "gpt-5-mini", "input": "x"}
    job = Job.model_validate({"name": "j", "input": {"path": f"{tmp_path}/*.txt"}, "request": request})
    rows = [row for row in open_rows(job) if isinstance(row, Row)]
    assert {row.key.rpartition("/")[2] for row in rows} == {"größe.txt", "caf\\xe8.txt", "caf\\xe9.txt"}
    for row in rows:
        assert (row.key + row.where + row.data["name"]).encode()
    assert input_identity(job)


# ── Bounds ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "text", "cap", "setting"),
    [
        ("a.jsonl", '{"id": "%s"}\n' % ("x" * 2000), {"line_bytes": 1024}, "input.caps.line_bytes"),
        ("a.jsonl", "x" * 2000, {"line_bytes": 1024}, "input.caps.line_bytes"),
        ("a.csv", "id\n" + "x" * 2000, {"line_bytes": 1024}, "input.caps.line_bytes"),
        ("a.txt", "x" * 2000, {"line_bytes": 1024}, "input.caps.line_bytes"),
        ("a.csv", 'id\n"' + "x\n" * 2000, {"field_characters": 1024}, "input.caps.field_characters"),
        ("a.csv", "id,text,more\n", {"columns": 2}, "input.caps.columns"),
    ],
)
def test_a_bound_is_named_with_its_setting(
    write: Write, make_job: MakeJob, name: str, text: str, cap: dict[str, int], setting: str
) -> None:
    write(name, text)
    place = Input.model_validate({"path": name, "caps": cap})
    made = make_job(path=name, request={"model": "gpt-5-mini", "input": "{{ id or 1 }}"})
    job = made.model_copy(update={"input": made.input.model_copy(update={"caps": place.caps})})
    with pytest.raises((SpecError, BadRow), match=setting):
        list(plan(job, Renderer(job), start=PlanMark(position=0, complete=False)))


def test_what_expands_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_FREE_EXPANSION", 2**20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": "1"}' + b"\n" * 2**23))
    with pytest.raises(SpecError, match=r"input\.caps\.expansion"):
        rows_of("a.jsonl.gz", tmp_path)
    assert rows_of("a.jsonl.gz", tmp_path, caps={"expansion": 10_000}) == [{"id": "1"}]


# ── Names ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Ticket No", "E-Mail Adresse", "Preis €"])
def test_a_column_that_is_no_plain_word_is_reported_with_how_to_write_it(make_job: MakeJob, name: str) -> None:
    with pytest.raises(SpecError, match="no plain word is written") as caught:
        make_job(request={"model": "gpt-5-mini", "input": f"Ticket: {{{{ {name} }}}}"})
    assert name == "Ticket No" or name not in str(caught.value)


def test_a_column_that_reads_as_a_difference(write: Write, make_job: MakeJob) -> None:
    write("a.csv", "Ticket-No,text\n1,one\n")
    job = make_job(path="a.csv", request={"model": "gpt-5-mini", "input": "{{ Ticket-No }}"})
    with pytest.raises(SpecError) as caught:
        refuse_missing_columns(job, Renderer(job))
    assert 'write {{ row["Ticket-No"] }}' in str(caught.value)


@pytest.mark.parametrize("field", ["items", "keys", "values", "get", "pop", "update", "copy", "clear"])
def test_a_field_comes_before_a_method_of_its_name(write: Write, make_job: MakeJob, field: str) -> None:
    write("a.jsonl", f'{{"order": {{"{field}": ["pen", "ink"], "count": 2}}}}\n')
    template = f'{{{{ order.{field} | join(", ") }}}} {{{{ row.order.{field}[0] }}}}'
    job = make_job(path="a.jsonl", request={"model": "gpt-5-mini", "input": template})
    renderer = Renderer(job)
    [batch] = plan(job, renderer, start=PlanMark(position=0, complete=False))
    assert renderer.render(batch.rows[0].row, where="a.jsonl:1")["input"] == "pen, ink pen"


def test_methods_are_there_where_no_field_has_their_name(write: Write, make_job: MakeJob) -> None:
    write("a.jsonl", '{"order": {"pen": 2}}\n')
    template = "{% for name, count in order.items() %}{{ name }}: {{ count }}{% endfor %}"
    job = make_job(path="a.jsonl", request={"model": "gpt-5-mini", "input": template})
    renderer = Renderer(job)
    [batch] = plan(job, renderer, start=PlanMark(position=0, complete=False))
    assert renderer.render(batch.rows[0].row, where="a.jsonl:1")["input"] == "pen: 2"
