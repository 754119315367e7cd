"""Images and files of the user's own, sent to the real sandbox and taken away again."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from .rig import Rig

KEY = {"KEY": "sk-files"}
AT = ("--db", "runs.db")
CONFIGURED = (*AT, "--config", "config.yaml")
ROWS = 6


def request(part: dict[str, str]) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "What does number {{ id }} say?"}, part]
    return {"model": "gpt-5-mini", "input": [{"role": "user", "content": content}], "max_output_tokens": 600}


UPLOADED = request({"type": "input_file", "file_id": "{{ report | upload }}"})
EMBEDDED = request({"type": "input_image", "image_url": "{{ photo | data_url }}"})


@pytest.fixture
def address(server: Callable[..., str]) -> str:
    return server()


@pytest.fixture
def made(rig: Callable[..., Rig], address: str, tmp_path: Path) -> Callable[..., Rig]:
    """A job of six rows over three distinct reports and a photo, at a provider that outlives its runs."""

    def make(template: dict[str, Any] = UPLOADED, **job: Any) -> Rig:
        rig_ = rig(config={"provider": {"base_url": address, "api_key_env": "KEY"}}, job={"request": template, **job})
        for number in range(3):
            (tmp_path / f"report-{number}.pdf").write_bytes(b"%PDF report ' " + str(number).encode() * 50)
        (tmp_path / "photo.png").write_bytes(b"\x89PNG" + bytes(range(256)))
        rows = [{"id": f"row-{n}", "report": f"report-{n % 3}.pdf", "photo": "photo.png"} for n in range(ROWS)]
        rig_.write_rows(rows)
        return rig_

    return make


def files_at(address: str) -> dict[str, bytes]:
    """What the provider keeps, by id."""
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {KEY['KEY']}"}) as client:
        listed = client.get("/files").json()["data"]
        return {each["id"]: client.get(f"/files/{each['id']}/content").content for each in listed}


def test_each_content_is_uploaded_once_and_used_by_all_rows_and_runs(made: Callable[..., Rig], address: str) -> None:
    rig = made()
    ended = rig.run(env=KEY)
    assert ended.code == 0, ended.err
    kept = files_at(address)
    assert sorted(kept.values()) == [b"%PDF report ' " + str(number).encode() * 50 for number in range(3)]
    assert len(rig.query("SELECT file_id FROM upload_use")) == 3
    items = [
        json.loads(rig.call("show", "r", f"row-{n}", *CONFIGURED, "--input-items", env=KEY).out) for n in range(2)
    ]
    assert {item["content"][1]["file_id"] for item in items} <= set(kept)
    again = rig.call(
        "run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "again", "--json", env=KEY
    )
    assert again.code == 0, again.err
    assert files_at(address) == kept
    shown = rig.call("show", "r", "row-1", *AT, "--json").summary["request"]
    assert shown["input"][0]["content"][1]["file_id"] in kept


@pytest.mark.long
def test_files_go_with_the_last_run_that_uses_them(made: Callable[..., Rig], address: str) -> None:
    rig = made(retention={"provider": "delete_after_export"}, output="out.jsonl")
    ended = rig.run(env=KEY)
    assert ended.code == 0, ended.err
    assert files_at(address) == {}
    assert "3 files gone at the provider" in rig.call("status", "r", *AT).out


@pytest.mark.long
def test_a_file_that_the_provider_lost_is_uploaded_again(made: Callable[..., Rig], address: str) -> None:
    rig = made()
    assert rig.run(env=KEY).code == 0
    gone = next(iter(files_at(address)))
    httpx.delete(f"{address}/files/{gone}", headers={"authorization": f"Bearer {KEY['KEY']}"})
    again = rig.call("run", "job.yaml", *CONFIGURED, "--run", "again", "--json", env=KEY)
    assert (again.code, again.summary["requests"]["succeeded"]) == (0, ROWS)
    assert gone not in files_at(address)
    assert len(files_at(address)) == 3


@pytest.mark.long
def test_a_run_that_is_killed_while_it_uploads_resumes(made: Callable[..., Rig], address: str) -> None:
    # What an image or a file costs at most is not known by itself; with a bound, a request in doubt is sent again.
    rig = made(budget={"usd": 5, "usd_per_request": 0.01})
    rig.write_config(
        {**rig.config, "limits": {"max_in_flight": 1, "requests_per_minute": 60_000, "polls_per_minute": 60_000}}
    )
    process = rig.start(*rig.run_arguments(), env=KEY)
    while not rig.query("SELECT file_id FROM upload"):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    rig.end(process)
    ended = rig.run(env=KEY)
    assert ended.code == 0, ended.err
    # A file that was on the wire when the process died may be there a second time, unnamed.
    assert 3 <= len(files_at(address)) <= 4
    assert ended.summary["requests"]["succeeded"] == ROWS


@pytest.mark.long
def test_an_image_goes_along_as_a_data_url(made: Callable[..., Rig], address: str) -> None:
    rig = made(EMBEDDED)
    ended = rig.run(env=KEY)
    assert ended.code == 0, ended.err
    assert files_at(address) == {}
    item = json.loads(rig.call("show", "r", "row-2", *CONFIGURED, "--input-items", env=KEY).out)
    assert item["content"][1]["image_url"].startswith("data:image/png;base64,iVBORw")


@pytest.mark.long
def test_urls_and_file_ids_pass_through(made: Callable[..., Rig]) -> None:
    part = {"type": "input_image", "image_url": "https://example.com/{{ id }}.png", "detail": "low"}
    rig = made(request(part))
    assert rig.run(env=KEY).code == 0
    item = json.loads(rig.call("show", "r", "row-2", *CONFIGURED, "--input-items", env=KEY).out)
    assert item["content"][1]["image_url"] == "https://example.com/row-2.png"


def test_a_file_that_is_not_there_stops_the_run_before_anything_is_sent(made: Callable[..., Rig]) -> None:
    rig = made()
    rig.write_rows([{"id": "row-0", "report": "report-9.pdf"}])
    ended = rig.run(env=KEY)
    assert ended.code == 2
    assert 'rows.jsonl:1: there is no file "report-9.pdf" in' in ended.err
