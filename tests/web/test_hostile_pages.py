"""Texts from models and inputs that try to become markup, to hide or to break a page: they stay text, and visible."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.stores.builders import NOW, Harness, a_row, a_run, mark

from .conftest import SPEC, visitor
from .hostile_texts import HOSTILE

pytestmark = pytest.mark.anyio

RAW = ("<script", "<img", "<svg/onload", "</title><script", "\u202e", "\x1b", "\x00", "\u2028", "<base")


async def plant(harness: Harness) -> None:
    """A run whose name, keys, rows, answers, codes, messages, flags and places are all hostile."""
    rows = [
        a_row(position, key=text or "(empty)", where=f"{text[:200]}:1", row=json.dumps({"text": text}).encode())
        for position, text in enumerate(HOSTILE)
    ]
    await harness.store.add_rows(harness.run.id, rows, [], mark(len(rows), complete=True))
    for place, request in enumerate(await harness.fresh()):
        text = HOSTILE[place]
        if place % 3:
            await harness.succeed(
                request, output_text=text, model=text[:100], body=json.dumps({"output": text}).encode()
            )
        else:
            await harness.fail(request, code=text[:300] or "empty", message=text)
        await harness.store.set_flag(request.id, text[:40].strip() or "flag", text[:2000], NOW)


@pytest.fixture
async def hostile(harness: Harness, database: Path) -> Harness:
    run = await harness.store.create_run(a_run('"><script>alert(1)</script>/../\u202e', spec_json=SPEC))
    planted = Harness(harness.store, harness.reader, run)
    await plant(planted)
    return planted


async def test_no_hostile_text_becomes_markup_or_stays_hidden(hostile: Harness, database: Path) -> None:
    base = f"/run/~{hostile.run.id}"
    async with visitor(database, may_write=True) as client:
        listed = (await client.get(f"{base}/rows.json")).json()
        paths = [row["page"] for row in listed["rows"]]
        assert len(paths) == len(HOSTILE)
        lists = ["/", base, f"{base}/rows", f"{base}/costs", f"{base}/stages", f"/compare?a=~{hostile.run.id}&b=demo"]
        searches = [
            f"{base}/rows?q={quote(text[:200])}&code={quote(text[:200])}&flag={quote(text[:40])}" for text in HOSTILE
        ]
        for path in [*paths, *lists, *searches, f"/compare?a=demo&b=~{hostile.run.id}", "/run/%3Cscript%3E"]:
            reply = await client.get(path)
            assert reply.status_code in (200, 404), path[:100]
            _check(reply)


def _check(reply: httpx.Response) -> None:
    text = reply.text.replace('<script src="/static/view.js" defer></script>', "")
    text = text.replace('<script src="/static/uplot-1.6.32.min.js" defer></script>', "")
    for raw in RAW:
        assert raw not in text, (str(reply.url)[:100], raw)
    assert len(reply.content) < 2_000_000


async def test_a_page_of_a_long_answer_is_cut_and_the_whole_is_text(
    harness: Harness, client: httpx.AsyncClient
) -> None:
    [row] = await harness.add(1)
    answer = "<b>" + "x" * 5_000_000
    await harness.succeed(row, output_text=answer)
    page = await client.get("/run/demo/row/row-0")
    assert len(page.content) < 500_000
    assert "of 5,000,003 characters" in page.text
    whole = await client.get("/run/demo/answer?key=row-0")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.text == answer


@pytest.mark.parametrize(
    "key", [".", "..", "a/b", "/", "a.json", "a%2Fb", "ü", " ", "?", "#", "x" * 5_000, "a\nb", "~1"]
)
async def test_a_row_is_found_by_any_key(harness: Harness, client: httpx.AsyncClient, key: str) -> None:
    await harness.store.add_rows(harness.run.id, [a_row(0, key=key)], [], mark(1))
    [row] = (await client.get("/run/demo/rows.json")).json()["rows"]
    # What a browser does to a path before it asks.
    reply = await client.get(str(httpx.URL("http://127.0.0.1:8765").join(row["page"])))
    assert reply.status_code == 200
    name, _, query = row["page"].partition("?")
    assert (await client.get(f"{name}.json?{query}")).json()["history"]["key"] == key


@pytest.mark.parametrize("name", [".", "..", "a/b", "a.json", "ü ü", "%2e", "~1", "<b>", "x" * 400])
async def test_a_run_is_found_by_any_name(harness: Harness, client: httpx.AsyncClient, name: str) -> None:
    await harness.store.create_run(a_run(name))
    shown = (await client.get("/runs.json")).json()["runs"][0]
    assert shown["run"] == name
    for page in ("", "/rows", "/costs", "/stages"):
        path = str(httpx.URL("http://127.0.0.1:8765").join(shown["page"] + page))
        assert (await client.get(path)).status_code == 200
        assert (await client.get(f"{path}.json")).json()["run"] == name


@pytest.mark.parametrize("name", ['a"; filename="b', "\r\nset-cookie: a=b", "../../x", "\u202e", "ü"])
async def test_the_name_of_a_downloaded_file_is_plain(harness: Harness, client: httpx.AsyncClient, name: str) -> None:
    run = await harness.store.create_run(a_run(name))
    reply = await client.get(f"/run/~{run.id}/rows.jsonl")
    assert reply.status_code == 200
    given = reply.headers["content-disposition"].removeprefix('attachment; filename="').removesuffix('"')
    assert given.isascii()
    assert set(given) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
    assert ".." not in given.removesuffix(".jsonl") or not given.startswith(".")


async def test_no_key_and_no_environment_is_on_a_page(
    harness: Harness, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-of-the-test")
    for row in await harness.add(3):
        await harness.succeed(row)
    for path in ("/", "/run/demo", "/run/demo/rows", "/run/demo/costs", "/run/demo/row/row-0", "/run/demo.json"):
        assert "sk-canary" not in (await client.get(path)).text
