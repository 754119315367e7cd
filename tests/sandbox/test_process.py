"""The sandbox as a process, started by a run or by hand: where it listens, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import httpx
import pytest

from orchestrator.core.errors import ConfigError, StoreError
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.process import embedded_sandbox
from orchestrator.sandbox.server.serve import running_sandbox, serve
from tests.warm import warm_python

from .callers import Start

pytestmark = pytest.mark.anyio


async def test_a_sandbox_ends_with_its_parent_and_releases_its_file(tmp_path: Path) -> None:
    script = f"""
        import anyio, sys
        from pathlib import Path
        from orchestrator.sandbox.server.process import embedded_sandbox
        from orchestrator.sandbox.sandbox_settings import SandboxSettings

        async def main():
            async with embedded_sandbox(SandboxSettings(), Path({str(tmp_path / "state.db")!r})) as endpoint:
                print(endpoint.base_url, flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
    """
    async with await anyio.open_process([sys.executable, "-c", textwrap.dedent(script)], stderr=None) as parent:
        assert parent.stdout is not None
        base_url = (await parent.stdout.receive()).decode().strip()
        parent.kill()
    # The next sandbox waits for the file, so the test need not wait for the end of the first.
    async with embedded_sandbox(SandboxSettings(), tmp_path / "state.db") as endpoint:
        assert endpoint.base_url
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(base_url)


@pytest.mark.parametrize("name", ["no/such/folder/state.db", "text.db"])
async def test_a_sandbox_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "executable", warm_python())
    (tmp_path / "text.db").write_text("This is not a database. " * 100)
    with pytest.raises(StoreError) as caught:
        async with embedded_sandbox(SandboxSettings(), tmp_path / name):
            pass
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "::"])  # noqa: S104
def test_other_machines_are_kept_out(host: str) -> None:
    with pytest.raises(ConfigError, match="can be reached by other machines"):
        serve(SandboxSettings(), host=host, port=0, state_file=None)


async def test_a_port_in_use_is_a_config_error(start: Start) -> None:
    port = httpx.URL((await start()).base_url).port
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        async with running_sandbox(SandboxSettings(), port=port or 0):
            pass


def test_the_command_says_that_it_is_simulated_and_ends_on_a_signal() -> None:
    code = (
        "from orchestrator.sandbox.server.serve import serve; "
        "from orchestrator.sandbox.sandbox_settings import SandboxSettings; "
        "serve(SandboxSettings(), host='127.0.0.1', port=0, state_file=None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert (process.wait(), process.stderr.read()) == (0, "")
    assert "simulated" in lines[0]
    assert "in memory only" in lines[1]
    assert "export OPENAI_BASE_URL=http://127.0.0.1:" in lines[2]
