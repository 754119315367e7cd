"""``view`` and ``run --view`` as a user has them: a socket, an address, and an end at Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orchestrator.cli.app import invoke
from orchestrator.web.view_server import serving_view
from tests.stores.builders import Harness

from .conftest import fill


@contextmanager
def viewing(folder: Path, *arguments: str) -> Iterator[str]:
    """The command in a process of its own; yields the address that it prints."""
    command = [sys.executable, "-m", "orchestrator", "view", "--no-browser", "--db", "runs.db", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) in (0, 130)


def test_without_a_database_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["view", "--no-browser", "--db", str(tmp_path / "none.db")]) == 5
    assert "no such database" in capsys.readouterr().err


def test_an_address_of_other_machines_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["view", "--host", "0.0.0.0", "--db", str(tmp_path / "none.db")]) == 2  # noqa: S104  # refused
    assert "--allowed-host" in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_server_answers_by_its_address_until_it_ends(harness: Harness, database: Path) -> None:
    await fill(harness)
    async with serving_view(database) as serving:
        address = serving.address(await serving.browser.run("demo"))
        async with httpx.AsyncClient(follow_redirects=True) as client:
            assert (await client.get(serving.base_url)).status_code == 403
            page = await client.get(address)
            assert (page.status_code, page.url.path, "token" in str(page.url)) == (200, "/run/demo", False)
            async with client.stream("GET", f"{serving.base_url}/run/demo/live") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert (await anext(stream.aiter_lines())).startswith("data: ")
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(serving.base_url)


@pytest.mark.anyio
async def test_two_servers_have_different_tokens(harness: Harness, database: Path) -> None:
    async with serving_view(database) as one, serving_view(database) as other:
        assert one.token != other.token
        assert len(one.token) >= 32


def test_the_command_serves_beside_its_database_and_ends_at_an_interrupt(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    (tmp_path / "rows.jsonl").write_text('{"text": "A canary sings."}\n')
    job.write_text('name: tiny\ninput: {path: rows.jsonl}\nrequest: {model: gpt-5-mini, input: "{{ text }}"}\n')
    done = invoke(["run", str(job), "--sandbox", "--db", str(tmp_path / "runs.db"), "--progress", "none"])
    assert done == 0
    with viewing(tmp_path, "tiny-1") as address, httpx.Client(follow_redirects=True) as client:
        page = client.get(address)
        assert page.status_code == 200
        assert "tiny-1" in page.text
        assert client.get(httpx.URL(address).join("/run/tiny-1.json")).json()["settled"] == 1


def test_a_run_shows_itself_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "rows.jsonl").write_text('{"text": "A canary sings."}\n')
    job = tmp_path / "job.yaml"
    job.write_text('name: tiny\ninput: {path: rows.jsonl}\nrequest: {model: gpt-5-mini, input: "{{ text }}"}\n')
    command = ["run", str(job), "--sandbox", "--db", str(tmp_path / "runs.db"), "--progress", "none", "--view"]
    assert invoke(command) == 0
    [address] = opened
    assert address.startswith("http://127.0.0.1:")
    assert f"view: {address}" in capsys.readouterr().err
