"""The user's function tools: handlers that answer the calls a response stopped for."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import anyio

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["FunctionTools", "Handler", "ToolResult"]

Handler: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]
# Says what is wrong with the arguments of a call, given as JSON, or None.
Check: TypeAlias = Callable[[str], str | None]

# How many bytes of an exception's message go to the model.
_LONGEST_MESSAGE = 2_000


@fast_dataclass(kw_only=False)
class ToolResult:
    """What a handler answered, or what went wrong, as the model will read it.

    ``raised`` is for the author of the handler: which exception, and where. The exception's message is left out,
    because it may quote what the model asked.
    """

    output: str
    failed: bool = False
    raised: str | None = None


class FunctionTools:
    """Runs handlers, a bounded number at once and each for a bounded time; the model receives every error.

    A handler is a function, sync or async, that is called with the call's arguments by name. Text that it returns is
    sent as it is, anything else as JSON. A sync handler runs in a thread; after its timeout the thread is abandoned,
    because Python cannot stop it.
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
        self._threads = asyncio.Semaphore(4 * at_once)

    async def call(self, name: str, arguments: str) -> ToolResult:
        """Answer one call; ``arguments`` is JSON as the model wrote it."""
        handler = self._handlers.get(name)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return _error(f"there is no tool named {name!r}; there are: {known}")
        flaw = self._flaw(name, arguments)
        if flaw is not None:
            return _error(f"the arguments do not fit the tool: {flaw}")
        given = exact_json.loads_whole_numbers(arguments)
        async with self._places:
            return await self._run(handler, given)

    def _flaw(self, name: str, arguments: str) -> str | None:
        check = self._checks.get(name)
        if check is not None and (flaw := check(arguments)) is not None:
            return flaw
        try:
            given = exact_json.loads_whole_numbers(arguments)
        except ValueError:
            return "they are not valid JSON"
        return None if isinstance(given, dict) else "they are not a JSON object"

    async def _run(self, handler: Handler, given: Mapping[str, Any]) -> ToolResult:
        with anyio.move_on_after(self._timeout_s):
            try:
                answer = await self._answer(handler, given)
                output = answer if isinstance(answer, str) else exact_json.dumps(answer).decode()
            except asyncio.CancelledError as error:
                if _is_being_cancelled():
                    raise
                return _failure(error)  # something of the handler's own was cancelled
            except (Exception, SystemExit) as error:  # noqa: BLE001  # the model receives it, and may correct the call
                return _failure(error)
            return self._bounded(output)
        return _error(f"the tool did not answer within {self._timeout_s:g} seconds")

    async def _answer(self, handler: Handler, given: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(handler):
            return await handler(**given)
        answer, error = await self._in_thread(lambda: handler(**given))
        if error is not None:
            raise error
        return await answer if inspect.isawaitable(answer) else answer

    async def _in_thread(self, work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """What it returned, or what it raised; a thread that hangs does not keep the process from ending."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def end(answer: Any, error: BaseException | None) -> None:
            self._threads.release()
            if not ended.done():
                ended.set_result((answer, error))

        def run() -> None:
            answer, error = None, None
            try:
                answer = work()
            except BaseException as raised:  # noqa: BLE001  # to be raised where it is awaited
                error = raised
            with suppress(RuntimeError):  # it comes so late that the loop is gone
                loop.call_soon_threadsafe(end, answer, error)

        await self._threads.acquire()
        threading.Thread(target=run, name="tool", daemon=True).start()
        return await ended

    def _bounded(self, output: str) -> ToolResult:
        # Half a character, which Python can hold in a text, can neither be stored nor sent.
        encoded = output.encode("utf-8", "replace")
        if len(encoded) > self._most_bytes:
            size = len(encoded)
            return _error(
                f"the tool answered with {size} bytes, more than the {self._most_bytes} allowed; ask for less"
            )
        return ToolResult(encoded.decode())


def _error(message: str) -> ToolResult:
    return ToolResult(f"error: {message}", failed=True)


def _failure(error: BaseException) -> ToolResult:
    """What the model receives of a handler that raised: the exception's type and message, cut to a length."""
    words = str(error).encode("utf-8", "replace")[:_LONGEST_MESSAGE].decode("utf-8", "ignore")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    kind = type(error).__name__
    return ToolResult(f"error: {kind}: {words}", failed=True, raised=f"{kind}{where}")


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
