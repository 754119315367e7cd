"""The pages as one application: each as HTML, and with ``.json`` at its end as the object that it shows."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.core import exact_json
from orchestrator.core.errors import OrchestratorError, RunNotFound, StoreError, UsageError
from orchestrator.stores.flags import checked_flag, checked_note
from orchestrator.web.access import ViewAccess
from orchestrator.web.comparison_page import comparison_page
from orchestrator.web.figure_pages import costs_page, dataset_page, stages_page
from orchestrator.web.live_figures import LiveFigures
from orchestrator.web.page_addresses import filter_of
from orchestrator.web.page_context import PageContext
from orchestrator.web.rendering import render
from orchestrator.web.row_download import file_name, lines_of
from orchestrator.web.row_listing import rows_page
from orchestrator.web.row_page import answer_of, history_named, row_page
from orchestrator.web.run_pages import overview_page, run_page

__all__ = ["PAGES", "create_view"]

Page: TypeAlias = Callable[[PageContext, Request], Awaitable[dict[str, Any]]]

# The path of each page, its template and what makes its object. As JSON, the first page is ``/runs.json``.
PAGES: tuple[tuple[str, str, Page], ...] = (
    ("/", "overview.html", overview_page),
    ("/compare", "compare.html", comparison_page),
    ("/dataset", "dataset.html", dataset_page),
    ("/run/{run}/rows", "rows.html", rows_page),
    ("/run/{run}/costs", "costs.html", costs_page),
    ("/run/{run}/stages", "stages.html", stages_page),
    ("/run/{run}/row", "row.html", row_page),
    ("/run/{run}/row/{key}", "row.html", row_page),
    ("/run/{run}", "run.html", run_page),
)
_MOST_FORM_BYTES = 20_000
_STATIC = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}


def create_view(view: PageContext, *, token: str, hosts: frozenset[str] = frozenset()) -> ASGIApp:
    """The application; ``hosts`` are the names beside those of this machine by which it may be called."""
    routes = [
        *(
            Route(f"{'/runs' if path == '/' else path}.json", partial(_as_json, view, page))
            for path, _, page in PAGES
        ),
        Route("/static/{name}", _static),
        Route("/run/{run}/live", partial(_live, view, LiveFigures(view))),
        Route("/run/{run}/answer", partial(_answer, view)),
        Route("/run/{run}/rows.jsonl", partial(_download, view)),
        Route("/run/{run}/flag", partial(_set_flag, view), methods=["POST"]),
        *(Route(path, partial(_as_html, view, template, page)) for path, template, page in PAGES),
    ]
    application = Starlette(routes=routes, exception_handlers={404: _not_found, OrchestratorError: _problem})
    return ViewAccess(application, token=token, hosts=hosts, may_write=view.may_write)


async def _as_html(view: PageContext, template: str, page: Page, request: Request) -> Response:
    values = await page(view, request)
    query = f"?{request.url.query}" if request.url.query else ""
    path = quote(request.scope["path"], safe="/~@+")
    shared = {
        "may_write": view.may_write,
        "form_token": view.form_token,
        "here": path + query,
        "as_json": f"{'/runs' if path == '/' else path}.json{query}",
    }
    html = render(template, {**values, **shared, "database": view.browser.database})
    # What is still computed is there soon.
    later = {} if values.get("is_current", True) else {"refresh": "1"}
    return HTMLResponse(html, headers=later)


async def _as_json(view: PageContext, page: Page, request: Request) -> Response:
    return Response(exact_json.dumps(await page(view, request)), media_type="application/json")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    known = {each.name: each for each in files("orchestrator.web").joinpath("static").iterdir()}
    if name not in known:
        return PlainTextResponse("there is no such file\n", status_code=404)
    media_type = _STATIC.get(name[name.rfind(".") :], "application/octet-stream")
    return Response(known[name].read_bytes(), media_type=media_type, headers={"cache-control": "max-age=3600"})


async def _live(view: PageContext, live: LiveFigures, request: Request) -> Response:
    run = await view.run_of(request)
    return StreamingResponse(live.events(run), media_type="text/event-stream")


async def _answer(view: PageContext, request: Request) -> Response:
    """The whole answer of a row, as text."""
    history = await history_named(view, await view.run_of(request), request)
    answer = answer_of(history) or ""
    return PlainTextResponse(answer.encode("utf-8", "replace"), headers={"content-disposition": "inline"})


async def _download(view: PageContext, request: Request) -> Response:
    """The rows of a list as a file."""
    run = await view.run_of(request)
    lines = lines_of(view.browser.slow, run, filter_of(request.query_params))
    headers = {"content-disposition": f'attachment; filename="{file_name(run)}"'}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


async def _set_flag(view: PageContext, request: Request) -> Response:
    """Flag a row, or take its flag away, and go back to its page."""
    if int(request.headers.get("content-length") or _MOST_FORM_BYTES + 1) > _MOST_FORM_BYTES:
        return PlainTextResponse("this form is too long\n", status_code=413)
    from urllib.parse import parse_qs

    form = {name: values[-1] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    if not hmac.compare_digest(form.get("form_token", "").encode(), view.form_token.encode()):
        return PlainTextResponse("this form is not of this page\n", status_code=403)
    run = await view.run_of(request)
    number = form.get("request", "")
    is_number = number.isascii() and number.isdigit() and len(number) <= 18
    if not is_number or await view.browser.quick.row_name(run.id, int(number)) is None:
        raise RunNotFound(f"run {run.name!r} has no such row")
    flag, note = checked_flag(form.get("flag", "")), checked_note(form.get("note", ""))
    if flag is None and note:
        raise UsageError("a note needs a flag", hint="choose or write one beside it")
    await view.browser.set_flag(int(number), flag, note)
    back = form.get("back", "")
    inside = back.startswith("/run/") and back.isascii() and back.isprintable()
    return RedirectResponse(back if inside else "/", status_code=303)


async def _not_found(request: Request, _: Exception) -> Response:
    return _error_page(request, "there is no such page", None, 404)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrchestratorError)  # noqa: S101  # it is registered for no other
    status = 404 if isinstance(error, RunNotFound) else 503 if isinstance(error, StoreError) else 400
    return _error_page(request, error.message, error.hint, status)


def _error_page(request: Request, message: str, hint: str | None, status: int) -> Response:
    if request.url.path.endswith(".json"):
        body = exact_json.dumps({"error": message, "hint": hint})
        return Response(body, status_code=status, media_type="application/json")
    return HTMLResponse(render("error.html", {"message": message, "hint": hint, "status": status}), status)
