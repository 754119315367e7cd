"""The handlers of a job's function tools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.core.errors import SpecError
from orchestrator.job.documents.validation_problems import ValidationProblem
from orchestrator.job.requests.imports import CannotImport, imported

__all__ = ["handler_problems", "load_handlers", "tool_schemas"]


def load_handlers(
    references: Mapping[str, str],
    base_dir: Path,
    *,
    where: str | None,
    field: str = "handlers",
    allowed: Collection[str] | None = None,
) -> dict[str, Callable[..., Any]]:
    """The functions that a job names in a field, by their tools; raises ``SpecError`` that names ``where`` and it.

    ``allowed`` are the modules from elsewhere that a job file may name; None allows all.
    """
    handlers: dict[str, Callable[..., Any]] = {}
    for name, reference in references.items():
        try:
            handler = imported(reference, base_dir, allowed=allowed)
        except CannotImport as error:
            raise SpecError(f"{field}.{name}: {error.reason}", where=where, hint=error.hint) from error
        if not callable(handler):
            kind = type(handler).__name__
            raise SpecError(f"{field}.{name}: {reference!r} is a {kind}, not a function", where=where)
        handlers[name] = handler
    return handlers


def tool_schemas(request: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the arguments of each function tool that has one."""
    return {
        tool["name"]: tool["parameters"]
        for tool in _functions(request)
        if isinstance(tool.get("name"), str) and isinstance(tool.get("parameters"), dict)
    }


def handler_problems(request: dict[str, Any], handlers: dict[str, str]) -> Iterator[ValidationProblem]:
    """Handlers of no tool, and tools without a handler if others have one."""
    if not handlers:
        return
    tools = {tool.get("name") for tool in _functions(request)}
    for name in handlers:
        if name not in tools:
            yield ValidationProblem(
                ("handlers", name), "is no function tool of request.tools", "name a tool that is there"
            )
    for name in sorted(str(tool) for tool in tools - {*handlers}):
        yield ValidationProblem(
            ("handlers",), f"has none for the tool {name!r}, which would stop the row", "name a function"
        )


def _functions(request: dict[str, Any]) -> list[dict[str, Any]]:
    tools = request.get("tools")
    if not isinstance(tools, list):
        return []
    return [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "function"]
