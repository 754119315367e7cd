"""Who may read the pages and who may write, and what every reply forbids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from orchestrator.core.errors import UsageError
from orchestrator.web.access import COOKIE, HEADERS, is_loopback_host
from orchestrator.web.view_server import check_address
from tests.stores.builders import Harness

from .conftest import FORM_TOKEN, TOKEN, fill, visitor

pytestmark = pytest.mark.anyio

PATHS = ("/", "/runs.json", "/run/demo", "/run/demo/live", "/static/view.css", "/run/demo/flag", "/nothing")
NO_HEADERS: Mapping[str, str] = {}
SAME_ORIGIN = {"origin": "http://127.0.0.1:8765"}


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_cookie_nothing_is_served(harness: Harness, database: Path, path: str) -> None:
    for token in (None, "", "another", TOKEN[:-1], f"{TOKEN}x", "%C3%BC"):
        async with visitor(database, token=token) as client:
            reply = await client.get(path)
            assert (reply.status_code, "demo" in reply.text) == (403, False)


async def test_a_cookie_of_any_bytes_is_only_a_wrong_one(harness: Harness, database: Path) -> None:
    async with visitor(database, token=None) as client:
        reply = await client.get("/", headers={b"cookie": f"{COOKIE}=ü".encode()})
        assert reply.status_code == 403


async def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(harness: Harness, database: Path) -> None:
    async with visitor(database, token=None) as client:
        reply = await client.get(f"/run/demo/rows?state=failed&token={TOKEN}&q=a%26b")
        assert reply.status_code == 303
        assert reply.headers["location"] == "/run/demo/rows?state=failed&q=a%26b"
        cookie = reply.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/%2F/evil.example"])
async def test_the_redirect_stays_here(harness: Harness, database: Path, path: str) -> None:
    async with visitor(database, token=None) as client:
        reply = await client.get(f"http://127.0.0.1:8765{path}?token={TOKEN}")
        assert reply.status_code == 303
        assert not reply.headers["location"].startswith("//")


async def test_a_wrong_token_gives_no_cookie(harness: Harness, database: Path) -> None:
    async with visitor(database, token=None) as client:
        reply = await client.get("/?token=guess")
        assert reply.status_code == 403
        assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "[::2]:80", "10.0.0.7", ""]
)
async def test_a_foreign_host_is_refused_before_anything_else(client: httpx.AsyncClient, host: str) -> None:
    for path in PATHS:
        assert (await client.get(path, headers={"host": host})).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:8765", "127.0.0.2"])
async def test_every_name_of_this_machine_is_served(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/", headers={"host": host})).status_code == 200


async def test_a_host_that_was_allowed_is_served(harness: Harness, database: Path) -> None:
    async with visitor(database, hosts=frozenset({"box.lan"})) as client:
        assert (await client.get("/", headers={"host": "Box.lan:8765"})).status_code == 200
        assert (await client.get("/", headers={"host": "other.lan"})).status_code == 400


@pytest.mark.parametrize("path", PATHS)
async def test_every_reply_forbids_what_a_page_does_not_need(client: httpx.AsyncClient, path: str) -> None:
    if path.endswith("/live"):
        return
    replies = [await client.get(path), await client.get(path, headers={"host": "evil.example"})]
    for reply in replies:
        for name, value in HEADERS.items():
            assert reply.headers[name] == value or name == "cache-control"
    policy = replies[0].headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


async def test_pages_are_kept_by_no_cache(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).headers["cache-control"] == "no-store"


async def post(client: httpx.AsyncClient, headers: Mapping[str, str] = NO_HEADERS, **changes: str) -> httpx.Response:
    page = (await client.get("/run/demo/row/row-0.json")).json()
    form = {"form_token": FORM_TOKEN, "request": str(page["request"]), "flag": "check", "note": "odd"}
    return await client.post("/run/demo/flag", data={**form, **changes}, headers={**SAME_ORIGIN, **headers})


async def flag_of(client: httpx.AsyncClient) -> str | None:
    flag: str | None = (await client.get("/run/demo/row/row-0.json")).json()["flag"]["flag"]
    return flag


async def test_without_control_nothing_is_written(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    assert (await post(client)).status_code == 403
    assert await flag_of(client) is None
    assert '<form class="flagform"' not in (await client.get("/run/demo/row/row-0")).text


async def test_with_control_a_flag_is_written_and_taken_away(harness: Harness, database: Path) -> None:
    await fill(harness)
    async with visitor(database, may_write=True) as client:
        assert "flagform" in (await client.get("/run/demo/row/row-0")).text
        reply = await post(client, back="/run/demo/row/row-0?state=failed")
        assert (reply.status_code, reply.headers["location"]) == (303, "/run/demo/row/row-0?state=failed")
        assert await flag_of(client) == "check"
        assert (await post(client, flag="", note="")).status_code == 303
        assert await flag_of(client) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": ""},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": "null", "sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_of_another_site_is_refused(harness: Harness, database: Path, headers: dict[str, str]) -> None:
    await fill(harness)
    async with visitor(database, may_write=True) as client:
        assert (await post(client, headers)).status_code == 403
        assert await flag_of(client) is None


async def test_the_form_of_a_page_without_referrer_is_known_by_its_site(harness: Harness, database: Path) -> None:
    await fill(harness)
    async with visitor(database, may_write=True) as client:
        assert (await post(client, {"origin": "null", "sec-fetch-site": "same-origin"})).status_code == 303


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"form_token": "guess"}, 403),
        ({"form_token": ""}, 403),
        ({"request": "987654321"}, 404),
        ({"request": "-1"}, 404),
        ({"request": "1" * 400}, 404),
        ({"flag": "x" * 51}, 400),
        ({"flag": "esc\x1b"}, 400),
        ({"flag": "", "note": "only a note"}, 400),
        ({"note": "x" * 2_001}, 400),
        ({"note": "x" * 30_000}, 413),
    ],
)
async def test_a_form_with_wrong_fields_is_refused(
    harness: Harness, database: Path, changes: dict[str, str], status: int
) -> None:
    await fill(harness)
    async with visitor(database, may_write=True) as client:
        assert (await post(client, NO_HEADERS, **changes)).status_code == status
        assert await flag_of(client) is None


@pytest.mark.parametrize(
    "back", ["https://evil.example", "//evil.example", "/run/\r\nset-cookie: a=b", "javascript:1"]
)
async def test_a_form_leads_back_to_a_page_of_the_view_only(harness: Harness, database: Path, back: str) -> None:
    await fill(harness)
    async with visitor(database, may_write=True) as client:
        assert (await post(client, back=back)).headers["location"] == "/"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST", "OPTIONS"])
async def test_other_methods_change_nothing(harness: Harness, database: Path, method: str) -> None:
    async with visitor(database, may_write=True) as client:
        reply = await client.request(method, "/run/demo", headers=SAME_ORIGIN)
        assert reply.status_code in (403, 405)


async def test_a_page_that_fails_ends_no_other_and_shows_no_text(
    harness: Harness, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visitor(database) as client:
        with monkeypatch.context() as broken:
            broken.setattr("orchestrator.web.application.render", lambda *_: 1 / 0)
            reply = await client.get("/")
            assert (reply.status_code, "ZeroDivision" in reply.text) == (500, False)
            assert reply.headers["content-security-policy"]
            broken.setenv("ORCHESTRATOR_DEBUG", "1")
            with pytest.raises(ZeroDivisionError):
                await client.get("/")
        assert (await client.get("/")).status_code == 200


def test_an_address_of_other_machines_needs_a_name() -> None:
    for host in ("0.0.0.0", "192.168.1.7", "::", "box.lan"):  # noqa: S104  # refused
        with pytest.raises(UsageError, match="allowed-host"):
            check_address(host, frozenset())
        check_address(host, frozenset({"box.lan"}))
    for host in ("127.0.0.1", "::1", "localhost"):
        assert is_loopback_host(host)
        check_address(host, frozenset())


def test_the_cookie_has_a_name_of_its_own() -> None:
    assert COOKIE.startswith("orchestrator")
