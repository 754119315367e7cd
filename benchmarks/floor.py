"""The floor: the least Python that gets the same answers, with raw aiohttp and nothing on disk.

It knows the latency and so polls each response once. ``python -m benchmarks.floor`` prints the time between its first
request and its last answer, without start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections.abc import Iterator

import aiohttp
import orjson

from benchmarks.words import passage

__all__ = ["main"]


def main() -> None:
    """Gets the answers and prints CPU and wall time in seconds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--prompt-bytes", type=int, required=True)
    parser.add_argument("--held", action="store_true", help="hold each create until its answer is there")
    wanted = parser.parse_args()
    asyncio.run(_answer_all(wanted))


async def _answer_all(wanted: argparse.Namespace) -> None:
    rng = random.Random(2)
    prompts = iter([passage(rng, wanted.prompt_bytes) for _ in range(wanted.rows)])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started, cpu_before = time.perf_counter(), _cpu_s()
        url = f"{wanted.base_url}/responses"
        await asyncio.gather(*(_answer(session, url, prompts, wanted) for _ in range(wanted.in_flight)))
        print(json.dumps({"cpu_s": _cpu_s() - cpu_before, "wall_s": time.perf_counter() - started}))


async def _answer(
    session: aiohttp.ClientSession, url: str, prompts: Iterator[str], wanted: argparse.Namespace
) -> None:
    for prompt in prompts:
        background = {} if wanted.held else {"background": True}
        body = orjson.dumps({"model": "gpt-5-mini", "input": prompt, **background, "store": True})
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
            response = orjson.loads(await reply.read())
        while response["status"] != "completed":
            await asyncio.sleep(wanted.latency)
            async with session.get(f"{url}/{response['id']}") as reply:
                response = orjson.loads(await reply.read())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
