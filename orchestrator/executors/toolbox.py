"""Function tools of the user's: the handlers that answer the calls a response stopped for."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import orjson
from anyio import to_thread

__all__ = ["Handler", "ToolSaid", "Toolbox"]

Handler: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]
# Says what is wrong with the arguments of a call, given as JSON, or None.
Check: TypeAlias = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class ToolSaid:
    """What a handler answered, or what went wrong, as the model will read it.

    ``raised`` is for whoever wrote the handler: which exception, and where. Its words may hold what the model asked.
    """

    output: str
    failed: bool = False
    raised: str | None = None


class Toolbox:
    """Runs handlers, a bounded number at once and each for a bounded time; whatever goes wrong is told to the model.

    A handler is a function, sync or async, that is called with the call's arguments by name. What it returns is sent
    as it is where it is text, and as JSON otherwise. A sync handler runs in a thread, and one that is out of time is
    left to itself there: Python cannot stop it.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        checks: Mapping[str, Check],
        max_turns: int,
        timeout_s: float,
        most_bytes: int,
        at_once: int,
    ) -> None:
        self._handlers = handlers
        self._checks = checks
        self.max_turns = max_turns
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._places = anyio.CapacityLimiter(at_once)
        # Threads that hang must not take the places of those that do not.
        self._threads = anyio.CapacityLimiter(4 * at_once)

    async def call(self, name: str, arguments: str) -> ToolSaid:
        """Answer one call; ``arguments`` is JSON as the model wrote it."""
        handler = self._handlers.get(name)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return ToolSaid(f"error: there is no tool named {name!r}; there are: {known}", failed=True)
        flaw = self._flaw(name, arguments)
        if flaw is not None:
            return ToolSaid(f"error: the arguments do not fit the tool: {flaw}", failed=True)
        given = orjson.loads(arguments)
        async with self._places:
            return await self._run(handler, given)

    def _flaw(self, name: str, arguments: str) -> str | None:
        check = self._checks.get(name)
        if check is not None and (flaw := check(arguments)) is not None:
            return flaw
        try:
            given = orjson.loads(arguments)
        except ValueError:
            return "they are not valid JSON"
        return None if isinstance(given, dict) else "they are not a JSON object"

    async def _run(self, handler: Handler, given: Mapping[str, Any]) -> ToolSaid:
        try:
            with anyio.fail_after(self._timeout_s):
                if inspect.iscoroutinefunction(handler):
                    said = await handler(**given)
                else:
                    said = await to_thread.run_sync(
                        lambda: handler(**given), abandon_on_cancel=True, limiter=self._threads
                    )
                    if inspect.isawaitable(said):
                        said = await said
            output = said if isinstance(said, str) else orjson.dumps(said).decode()
        except TimeoutError:
            return ToolSaid(f"error: the tool did not answer within {self._timeout_s:g} seconds", failed=True)
        except Exception as error:  # noqa: BLE001  # the model is told, and may do better
            return ToolSaid(f"error: {type(error).__name__}: {error}", failed=True, raised=_raised(error))
        if (size := len(output.encode("utf-8", "replace"))) > self._most_bytes:
            return ToolSaid(
                f"error: the tool answered with {size} bytes, more than the {self._most_bytes} allowed; ask for less",
                failed=True,
            )
        return ToolSaid(output)


def _raised(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
