"""Rate limits through the whole product: a known allowance, and one that must be discovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import Note
from .station import Provider, Station

PER_MINUTE = 1200
# Each case takes one to two and a half minutes, nearly all of it waiting.
pytestmark = pytest.mark.chaos


def run(folder: Path, *, rows: int, limits: dict[str, Any], known: int | None) -> tuple[list[float], float]:
    """Runs ``rows`` rows; returns when each was accepted, after the first one, and the share of refused creates."""
    settings = {"latency": {"queue": 0.1, "run": {"from_s": 0.2, "to_s": 1}}, "limits": limits}
    with Provider(folder, settings) as provider:
        config = {
            "provider": {"base_url": f"{provider.address}/v1"},
            "limits": {"polls_per_minute": 60_000, "max_in_flight": 500}
            | ({"requests_per_minute": known} if known else {}),
        }
        station = Station(folder, rows=rows, config=config, provider=provider)
        ended = station.end(station.start(*station.run_arguments()), timeout_s=280)
        assert ended.code == 0, ended.err
        assert ended.summary["requests"]["succeeded"] == ended.summary["attempts"] == rows
        accepted = sorted(each["created_at"] for each in provider.responses())
        creates = provider.ledger()["creates"]
    return [at - accepted[0] for at in accepted], creates["refused"]["total"] / creates["calls"]


def used(accepted: list[float], since_s: float, until_s: float) -> float:
    """The share of the allowance that was used between two times."""
    return sum(since_s <= at < until_s for at in accepted) * 60 / (PER_MINUTE * (until_s - since_s))


def check(note: Note, accepted: list[float], refused: float, *, since_s: float, share: float, most: float) -> None:
    """Notes what was used and refused, and checks it against the promised shares."""
    was_used = used(accepted, since_s, accepted[-1])
    note(f"{was_used:.1%} of the allowance used after the first {since_s:.0f} s, {refused:.2%} of creates refused")
    assert was_used >= share
    assert refused <= most


@pytest.mark.parametrize("burst_s", [60, 1])
def test_a_known_allowance_is_used_to_95_per_cent(tmp_path: Path, note: Note, burst_s: float) -> None:
    limits = {"requests_per_minute": PER_MINUTE, "burst_s": burst_s}
    accepted, refused = run(tmp_path, rows=1400, limits=limits, known=PER_MINUTE)
    check(note, accepted, refused, since_s=10, share=0.95, most=0.005)


def test_an_allowance_in_headers_is_used_like_a_known_one(tmp_path: Path, note: Note) -> None:
    accepted, refused = run(tmp_path, rows=1400, limits={"requests_per_minute": PER_MINUTE}, known=None)
    check(note, accepted, refused, since_s=10, share=0.95, most=0.005)


@pytest.mark.parametrize("burst_s", [60, 10])
def test_an_unreported_allowance_is_found_within_a_minute(tmp_path: Path, note: Note, burst_s: float) -> None:
    limits = {"requests_per_minute": PER_MINUTE, "burst_s": burst_s, "headers": False}
    accepted, refused = run(tmp_path, rows=2800, limits=limits, known=None)
    check(note, accepted, refused, since_s=60, share=0.85, most=0.02)
