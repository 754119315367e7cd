"""Whatever a handler does, the model receives it, and the run continues."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator.executors.function_tools import FunctionTools, Handler, ToolResult
from orchestrator.policy.errors.answer_schema import AnswerSchema

pytestmark = pytest.mark.anyio

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tools_of(
    handler: Handler | None = None, *, timeout_s: float = 20.0, at_once: int = 4, **more: Handler
) -> FunctionTools:
    handlers = {**more} if handler is None else {"ask": handler, **more}
    return FunctionTools(
        handlers,
        checks={"ask": AnswerSchema(CITY).flaw},
        max_turns=8,
        timeout_s=timeout_s,
        most_bytes=256 * 1024,
        at_once=at_once,
    )


async def said(handler: Handler, arguments: str = '{"city": "Oslo"}', **options: Any) -> ToolResult:
    return await tools_of(handler, **options).call("ask", arguments)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something that handlers hang on, opened when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def raises(error: BaseException) -> Callable[..., Any]:
    def handler(city: str) -> Any:
        raise error

    return handler


async def asked_async(city: str) -> dict[str, str]:
    await anyio.lowlevel.checkpoint()
    return {"city": city}


def asked_awaitable(city: str) -> Any:
    return asked_async(city)


class AskedObject:
    async def __call__(self, city: str) -> str:
        return city


@pytest.mark.parametrize(
    ("handler", "output"),
    [
        (lambda city: city, "Oslo"),
        (lambda city: {"name": city, "people": 709_000}, '{"name":"Oslo","people":709000}'),
        (lambda **_: None, "null"),
        (lambda city: [city, 1.5], '["Oslo",1.5]'),
        (asked_async, '{"city":"Oslo"}'),
        (asked_awaitable, '{"city":"Oslo"}'),
        (AskedObject(), "Oslo"),
        (lambda **_: "half a \ud83d", "half a ?"),
    ],
    ids=["text", "object", "nothing", "list", "async", "awaitable", "async callable", "half a character"],
)
async def test_an_answer_is_sent_as_text_or_json(handler: Handler, output: str) -> None:
    assert await said(handler) == ToolResult(output)


async def test_a_sync_handler_does_not_hold_up_the_loop(gate: threading.Event) -> None:
    began = threading.Event()

    def handler(city: str) -> bool:
        began.set()
        return gate.wait(20)

    answers: list[ToolResult] = []

    async def call() -> None:
        answers.append(await said(handler))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        while not began.is_set():
            await anyio.lowlevel.checkpoint()
        # If the handler ran in the event loop, nothing could open the gate.
        gate.set()
    assert answers == [ToolResult("true")]


async def test_an_unknown_tool_is_answered_with_the_known_ones() -> None:
    tools = tools_of(lambda city: city, look_up=lambda: "x")
    answered = await tools.call("no_such_function", "{}")
    assert answered == ToolResult(
        "error: there is no tool named 'no_such_function'; there are: ask, look_up", failed=True
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('{"city": "Os', "not JSON"),
        ("", "not JSON"),
        ('{"town": "Oslo"}', "city"),
        ('{"city": 7}', "city"),
    ],
)
async def test_arguments_that_do_not_fit_never_reach_the_handler(arguments: str, says: str) -> None:
    answered = await said(raises(AssertionError("called")), arguments)
    assert answered.failed
    assert answered.raised is None
    assert answered.output.startswith("error: the arguments do not fit the tool: ")
    assert says in answered.output


@pytest.mark.parametrize("arguments", ["[1]", '"Oslo"', "{"])
async def test_arguments_of_a_tool_without_a_schema_must_still_be_an_object(arguments: str) -> None:
    answered = await tools_of(free=lambda **given: given).call("free", arguments)
    assert (answered.failed, answered.raised) == (True, None)


async def test_arguments_that_the_handler_does_not_take_are_reported() -> None:
    answered = await said(lambda town: town)
    assert answered.failed
    assert "unexpected keyword argument 'city'" in answered.output


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (KeyError("Oslo"), "error: KeyError: 'Oslo'"),
        (TimeoutError("the database"), "error: TimeoutError: the database"),
        (SystemExit(3), "error: SystemExit: 3"),
        (StopIteration(), "error: RuntimeError: coroutine raised StopIteration"),
        (asyncio.CancelledError(), "error: CancelledError: "),
        (ValueError("x" * 100_000), "error: ValueError: " + "x" * 2000),
        (ValueError("half \ud83d"), "error: ValueError: half ?"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_the_error_of_a_handler_is_reported_with_its_place(error: BaseException, output: str) -> None:
    answered = await said(raises(error))
    assert (answered.output, answered.failed) == (output, True)
    assert answered.raised is not None
    assert __file__ in answered.raised or "RuntimeError" in answered.raised
    # What the model asked, and what was in the data, is not for logs.
    assert "Oslo" not in answered.raised


async def test_the_error_of_an_async_handler_is_reported() -> None:
    async def handler(city: str) -> None:
        raise LookupError("no such city")

    assert (await said(handler)).output == "error: LookupError: no such city"


async def test_an_async_handler_that_hangs_is_ended() -> None:
    ended = []

    async def handler(city: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(city)

    answered = await said(handler, timeout_s=0.05)
    assert answered == ToolResult("error: the tool did not answer within 0.05 seconds", failed=True)
    assert ended == ["Oslo"]


async def test_a_sync_handler_that_hangs_is_left_to_itself(gate: threading.Event) -> None:
    answered = await said(lambda **_: gate.wait(20), timeout_s=0.05)
    assert answered == ToolResult("error: the tool did not answer within 0.05 seconds", failed=True)


async def test_handlers_that_hang_leave_room_for_others(gate: threading.Event) -> None:
    tools = tools_of(lambda city: gate.wait(20) and "late" if city == "hang" else city, timeout_s=0.05, at_once=2)
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(tools.call, "ask", '{"city": "hang"}')
    assert await tools.call("ask", '{"city": "Oslo"}') == ToolResult("Oslo")


async def test_a_process_ends_although_a_handler_hangs() -> None:
    script = """
import anyio, time
from orchestrator.executors.function_tools import FunctionTools

async def main():
    handlers = {"ask": lambda: time.sleep(6000)}
    tools = FunctionTools(handlers, checks={}, max_turns=8, timeout_s=0.05, most_bytes=99, at_once=1)
    print((await tools.call("ask", "{}")).output)

anyio.run(main)
"""
    ended = await anyio.run_process([sys.executable, "-c", script])
    assert ended.stdout == b"error: the tool did not answer within 0.05 seconds\n"


async def test_so_many_run_at_once_and_no_more() -> None:
    running, most = 0, 0

    async def handler(city: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        return city

    tools = tools_of(handler, at_once=3)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(tools.call, "ask", '{"city": "Oslo"}')
    assert most == 3


async def test_an_answer_of_five_megabytes_is_refused() -> None:
    answered = await said(lambda **_: "x" * 5_000_000)
    assert answered.failed
    assert (
        answered.output == "error: the tool answered with 5000000 bytes, more than the 262144 allowed; ask for less"
    )


async def test_an_answer_that_json_cannot_hold_is_reported() -> None:
    answered = await said(lambda **_: {"city": object()})
    assert answered.output == "error: TypeError: Type is not JSON serializable: object"
    assert answered.raised is not None


async def test_a_cancel_from_outside_ends_the_call() -> None:
    began = anyio.Event()

    async def handler(city: str) -> None:
        began.set()
        await anyio.sleep_forever()

    answers: list[ToolResult] = []

    async def call() -> None:
        answers.append(await said(handler))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await began.wait()
        tasks.cancel_scope.cancel()
    assert answers == []
