"""Waiting for a signal, for a time, or for the first of both."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from orchestrator.core.clock import Signal, SystemClock

pytestmark = pytest.mark.anyio


async def test_a_signal_set_before_the_wait_is_not_lost() -> None:
    signal = Signal()
    signal.set()
    await signal.wait()
    with anyio.move_on_after(0.02) as scope:
        await signal.wait()
    assert scope.cancelled_caught, "one signal wakes once"


async def test_a_signal_ends_the_wait_before_the_time() -> None:
    clock, signal = SystemClock(), Signal()
    asyncio.get_running_loop().call_soon(signal.set)
    await clock.wait(signal, clock.now() + 3600)


async def test_without_a_signal_the_wait_ends_at_the_time() -> None:
    clock, signal = SystemClock(), Signal()
    until = clock.now() + 0.03
    while clock.now() < until:
        await clock.wait(signal, until)
    await clock.wait(signal, clock.now() - 1)


async def test_a_signal_that_is_always_set_does_not_starve_other_tasks() -> None:
    signal, turns = Signal(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(50):
            signal.set()
            await signal.wait()
        tasks.cancel_scope.cancel()
    assert turns >= 49


async def test_a_wait_can_be_cancelled_and_started_again() -> None:
    signal = Signal()
    with anyio.move_on_after(0.01):
        await signal.wait(3600)
    signal.set()
    await signal.wait(3600)
