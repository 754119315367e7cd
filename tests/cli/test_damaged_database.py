"""A database with flipped bits: every command reads what it can, or names the file and what to do."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import RUN, Ended

_READING = (("status", "r"), ("runs",), ("show", "r", "row-3"), ("export", "r", "-o", "out.jsonl"), ("costs",))


@pytest.fixture
def intact(folder: Path, cli: Callable[..., Ended]) -> Path:
    assert cli(*RUN, "--run", "r").code == 0
    (folder / "runs.db.lock").unlink(missing_ok=True)
    assert not (folder / "runs.db-wal").exists()
    return (folder / "runs.db").rename(folder / "intact.db")


def flip(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    # Most of the flips hit something that is in use, a tenth of them the header.
    used = [at for at, byte in enumerate(content) if byte]
    for _ in range(rng.choice([1, 4, 30, 200])):
        at = rng.randrange(100) if rng.random() < 0.1 else rng.choice(used)
        content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def damage(folder: Path, cli: Callable[..., Ended], *, count: int, seed: int) -> Counter[str]:
    rng, ends = random.Random(seed), Counter[str]()
    for number in range(count):
        for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
            (folder / name).unlink(missing_ok=True)
        shutil.copy(folder / "intact.db", folder / "runs.db")
        flip(rng, folder / "runs.db")
        commands = [(*command, "--db", "runs.db") for command in _READING]
        if number % 10 == 0:
            commands.append((*RUN, "--run", "r"))
        for command in commands:
            ended = cli(*command)
            at = f"database {number} of seed {seed}, {command}: {ended.code} {ended.err}"
            # A flipped bit may also make another name or another state of a row, which is no damage to be seen.
            assert ended.code in ({0, 5} | {2, 3, 4, 6} if _names_itself(command) else {0, 5}), at
            assert not any(word in ended.err for word in ("Traceback", "bug")), at
            if ended.code == 5:
                assert all(word in ended.err for word in ("runs.db", "hint:")), at
            ends[f"{command[0]} {ended.code}"] += 1
    return ends


def _names_itself(command: tuple[str, ...]) -> bool:
    """Whether a command looks for a run or a row by its name."""
    return command[0] in ("status", "show", "export", "run")


def test_ten_damaged_databases(intact: Path, cli: Callable[..., Ended]) -> None:
    ends = damage(intact.parent, cli, count=10, seed=1)
    print(dict(ends))  # noqa: T201
    assert ends["costs 0"] < ends.total()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_damaged_databases(intact: Path, cli: Callable[..., Ended], seed: int) -> None:
    ends = damage(intact.parent, cli, count=50, seed=100 + seed)
    print(f"50 databases, seed {seed}: {dict(ends)}")  # noqa: T201
