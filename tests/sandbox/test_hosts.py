"""The sandbox answers only calls to a name of this machine, on every path."""

from __future__ import annotations

import httpx
import pytest

from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox

pytestmark = pytest.mark.anyio

PATHS = ["/_ledger", "/_ledger/responses", "/v1/models", "/v1/responses/resp_1", "/v1/organization/costs", "/nowhere"]
OURS = ["localhost", "127.0.0.1", "127.0.0.1:8099", "[::1]:8099", "app.localhost:1", "LOCALHOST"]
FOREIGN = ["evil.example", "evil.example:8099", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.1.1", ""]


async def test_every_path_checks_the_host() -> None:
    async with running_sandbox(SandboxSettings()) as base_url, httpx.AsyncClient(verify=False) as http:  # noqa: S501
        root = base_url.removesuffix("/v1")
        for path in PATHS:
            for host in FOREIGN:
                reply = await http.get(root + path, headers={"host": host, "authorization": "Bearer sk-1"})
                assert (reply.status_code, reply.json()["error"]["code"]) == (421, "wrong_host"), (path, host)
            for host in OURS:
                reply = await http.get(root + path, headers={"host": host, "authorization": "Bearer sk-1"})
                assert reply.status_code != 421, (path, host)


async def test_a_sandbox_for_other_machines_answers_any_host() -> None:
    async with running_sandbox(SandboxSettings(), host="0.0.0.0") as base_url:  # noqa: S104
        port = base_url.split(":")[2].split("/")[0]
        async with httpx.AsyncClient(verify=False) as http:  # noqa: S501
            reply = await http.get(f"http://127.0.0.1:{port}/_ledger", headers={"host": "box.example"})
            assert reply.status_code == 200
