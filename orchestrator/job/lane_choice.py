"""The lane of a job: which there are, and what of a request does not fit one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.job.documents.validation_problems import ValidationProblem

__all__ = ["LaneName", "lane_problems"]

LaneName: TypeAlias = Literal["background", "sync", "window-2h", "window-8h", "flex", "batch", "auto"]


def lane_problems(
    lane: LaneName, request: Mapping[str, Any], *, stream: bool, chain: bool = False
) -> list[ValidationProblem]:
    """What a lane cannot carry out, or what the request decides in its place."""
    return list(_problems(lane, request, stream=stream, chain=chain))


def _problems(
    lane: LaneName, request: Mapping[str, Any], *, stream: bool, chain: bool
) -> Iterator[ValidationProblem]:
    if lane == "background":
        return
    if chain and lane == "batch":
        hint = "leave one of the two out: a turn of a chain waits for the one before it"
        yield ValidationProblem(("lane",), "cannot be batch beside chain", hint)
    if stream:
        hint = "leave one of the two out: only background responses are streamed"
        yield ValidationProblem(("lane",), f"cannot be {lane} beside stream", hint)
    for field, value in _decided(request):
        if not _agrees(lane, value):
            hint = f"leave out one of the two; what the lane {lane} sends is set by the lane"
            yield ValidationProblem(("request", field), f"cannot stand beside lane: {lane}", hint)


def _decided(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the request says of price and time, which a lane says too."""
    tier, options = request.get("service_tier"), request.get("background_options")
    if tier not in (None, "auto", "default"):
        yield "service_tier", tier
    window = options.get("completion_window") if isinstance(options, dict) else None
    if window not in (None, "soonest"):
        yield "background_options", window


def _agrees(lane: LaneName, value: Any) -> bool:
    if lane == "auto":
        return False
    if lane == "sync":
        return value not in ("2h", "8h")
    window = WINDOWS.get(Lane(lane))
    return bool(value == (window[0] if window is not None else lane))
