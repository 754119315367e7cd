"""Files in requests: where they are read from, how they are marked, and what cannot be sent."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.core.errors import BadRow
from orchestrator.job.requests import local_files
from orchestrator.job.requests.local_files import FileToUpload, LocalFiles, NamedFiles, UnchangedFiles, uploads_in
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import Row
from orchestrator.job.spec import Job

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "img").mkdir(parents=True)
    (tmp_path / "data" / "rows.jsonl").write_text("{}\n")
    (tmp_path / "data" / "img" / "a.png").write_bytes(PNG)
    (tmp_path / "data" / "report.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "data" / "same.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "data" / "empty.pdf").write_bytes(b"")
    (tmp_path / "data" / "strange.zzz").write_bytes(b"?")
    (tmp_path / "secret.txt").write_text("not for anybody")
    (tmp_path / "data" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path


def renderer(folder: Path, template: str, *, read: LocalFiles | NamedFiles | None = None, **job: Any) -> Renderer:
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": template}]
    fields = {
        "name": "a",
        "input": {"path": "data/rows.jsonl"},
        "request": {"model": "gpt-5-mini", "input": [{"role": "user", "content": content}]},
    }
    made = Job.model_validate({**fields, **job}, context={"source": folder / "job.yaml"})
    return Renderer(made, files=read)


def part(rendering: Renderer, **row: Any) -> Any:
    fields = rendering.render(orjson.dumps(row), where="rows.jsonl:1")
    return fields["input"][0]["content"][1]["image_url"]


def test_a_data_url_holds_the_file_with_its_kind(folder: Path) -> None:
    url = part(renderer(folder, "{{ photo | data_url }}"), photo="img/a.png")
    assert url == "data:image/png;base64," + base64.b64encode(PNG).decode()


def test_an_upload_stands_for_its_content(folder: Path) -> None:
    rendering = renderer(folder, "{{ report | upload }}")
    one, same = (part(rendering, report=name) for name in ("report.pdf", "same.pdf"))
    assert isinstance(one, FileToUpload)
    assert one == same
    assert (one.name, one.purpose, one.read()) == ("report.pdf", "user_data", b"%PDF-1.7")
    assert part(renderer(folder, "{{ p | upload }}"), p="img/a.png").purpose == "vision"
    assert part(renderer(folder, '{{ p | upload("assistants") }}'), p="report.pdf").purpose == "assistants"
    assert [*uploads_in({"input": [{"content": [one, "text"]}]})] == [one]
    assert orjson.loads(orjson.dumps([one])) == [str(one)]


def test_a_file_that_was_changed_is_noticed(folder: Path) -> None:
    rendering = renderer(folder, "{{ report | upload }}")
    upload = part(rendering, report="report.pdf")
    (folder / "data" / "report.pdf").write_bytes(b"another report")
    assert upload.read() is None
    assert part(rendering, report="report.pdf").read() == b"another report"
    (folder / "data" / "report.pdf").unlink()
    assert upload.read() is None


def test_another_folder_can_be_named(folder: Path) -> None:
    url = part(renderer(folder, "{{ photo | data_url }}", files="data/img"), photo="a.png")
    assert url.startswith("data:image/png")


@pytest.mark.parametrize(
    ("template", "name", "words"),
    [
        ("{{ f | data_url }}", "img/b.png", 'there is no file "img/b.png" in'),
        ("{{ f | upload }}", "img", 'there is no file "img" in'),
        ("{{ f | data_url }}", "../secret.txt", "is outside the folder"),
        ("{{ f | upload }}", "/etc/passwd", "is outside the folder"),
        ("{{ f | upload }}", "link.txt", "is outside the folder"),
        ("{{ f | data_url }}", "strange.zzz", "does not show what kind of file it is"),
        ("{{ f | upload }}", "empty.pdf", "is empty"),
        ("{{ f | data_url }}", "", "the name of a file is needed"),
        ("{{ f | data_url }}", 7, "the name of a file is needed"),
        ("{{ f | data_url }}", None, "the name of a file is needed"),
        ("see {{ f | data_url }}", "img/a.png", "must stand alone"),
        ("{{ f | upload(f) }}", "report.pdf", "the purpose of an upload is a word"),
    ],
)
def test_what_cannot_be_sent_is_reported_with_the_row(folder: Path, template: str, name: Any, words: str) -> None:
    rendering = renderer(folder, template)
    row = Row(position=0, where="rows.jsonl:1", key="a", data={"f": name})
    for read in (lambda: rendering.check(row), lambda: part(rendering, f=name)):
        with pytest.raises(BadRow) as refused:
            read()
        assert words in str(refused.value)
        assert str(refused.value).startswith("rows.jsonl:1: ")


def test_sizes_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local_files._SIZES, "data_url", (10, "larger ones can be uploaded"))
    with pytest.raises(BadRow, match=r"has 0.0 MB, more than 0 MB; larger ones can be uploaded"):
        part(renderer(folder, "{{ f | data_url }}"), f="img/a.png")


def test_a_row_cannot_pretend_to_be_a_mark(folder: Path) -> None:
    forged = "\0" + "0" * 16 + "\0data_url\0\0img/a.png\0"
    rendering = renderer(folder, "{{ (f if f.startswith('img') else f) | trim }}")
    assert part(rendering, f=forged) == forged
    mixed = renderer(folder, "{{ f if f != 'img/a.png' else (f | data_url) }}")
    assert part(mixed, f=forged) == forged


def test_planning_checks_files_and_reads_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    renderer(folder, "{{ f | data_url }}").check(Row(position=0, where="x:1", key="a", data={"f": "img/a.png"}))


def test_a_request_can_be_shown_without_its_files(folder: Path) -> None:
    rendering = renderer(folder, "{{ f | data_url }}", read=NamedFiles())
    assert part(rendering, f="img/gone.png") == "(data url of img/gone.png)"


def test_a_file_that_changed_since_a_time_is_only_named(folder: Path) -> None:
    image = folder / "data" / "img" / "a.png"
    since = image.stat().st_mtime
    rendering = renderer(folder, "{{ f | data_url }}", read=UnchangedFiles(folder / "data", since=since))
    assert part(rendering, f="img/a.png").startswith("data:image/png;base64,")
    os.utime(image, (since + 1, since + 1))
    assert part(rendering, f="img/a.png") == "(data url of img/a.png)"
    assert part(rendering, f="img/gone.png") == "(data url of img/gone.png)"
    assert part(rendering, f="../secret.txt") == "(data url of ../secret.txt)"


SECRET = (
    ".env", "sub/.netrc", ".ssh/id.txt", "prod.env", "server.pem", "id_rsa", "credentials.json", "secrets.yaml",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *SECRET, "rows.jsonl", "./rows.jsonl", "img/../rows.jsonl", "job.yaml", "config.yaml", "runs.db", "runs.db-wal", "runs.db.lock", "notes.txt",  # noqa: E501
        "hardlink.txt",
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["upload", "data_url"])
def test_a_row_cannot_name_what_is_not_for_the_provider(folder: Path, name: str, how: str) -> None:
    data = folder / "data"
    for each in (
        "sub/.netrc",
        ".ssh/id.txt",
        ".env",
        "prod.env",
        "server.pem",
        "id_rsa",
        "credentials.json",
        "secrets.yaml",
    ):
        (data / each).parent.mkdir(exist_ok=True)
        (data / each).write_text("secret")
    for each in ("job.yaml", "config.yaml"):
        (data / each).write_text("name: a")
    (data / "runs.db").write_bytes(b"SQLite format 3\0 and pages")
    (data / "runs.db-wal").write_bytes(b"pages")
    (data / "runs.db.lock").write_bytes(b"1 2")
    (data / "notes.txt").symlink_to(data / ".env")
    (data / "hardlink.txt").hardlink_to(data / "job.yaml")
    content = [{"type": "input_file", "file_id": f"{{{{ file | {how} }}}}"}]
    request = {"model": "gpt-5-mini", "input": [{"role": "user", "content": content}]}
    job = Job.model_validate(
        {"name": "a", "input": {"path": "rows.jsonl"}, "request": request}, context={"source": data / "job.yaml"}
    )
    rendering = Renderer(job, private=[data / "config.yaml"])
    row = {"file": name}
    for use in (
        lambda: rendering.render(orjson.dumps(row), where="rows.jsonl:1"),
        lambda: rendering.check(Row(0, "rows.jsonl:1", "1", row)),
    ):
        with pytest.raises(BadRow, match=r"is not (sent|read)"):
            use()
