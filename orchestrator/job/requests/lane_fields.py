"""What a lane adds to the fields of a create call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.job.requests.local_files import uploads_in

__all__ = ["in_lane", "lane_of", "priced_in_lane"]


def in_lane(fields: Mapping[str, Any], lane: Lane) -> Mapping[str, Any]:
    """The fields as the lane sends them. It is no part of what is asked, so lanes share fingerprints and answers."""
    if lane is Lane.FLEX:
        return {**fields, "service_tier": "flex"}
    if lane in WINDOWS:
        options = fields.get("background_options")
        given = options if isinstance(options, dict) else {}
        return {**fields, "background_options": {**given, "completion_window": WINDOWS[lane][0]}}
    return fields


def lane_of(lane: Lane, fields: Mapping[str, Any], *, continues: bool) -> Lane:
    """The lane that one request of a stage takes.

    What continues from an earlier response waits for no batch, and a file is uploaded only before a single call.
    """
    if lane is Lane.BATCH and (continues or next(iter(uploads_in(fields)), None) is not None):
        return Lane.BACKGROUND
    return lane


def priced_in_lane(fields: Mapping[str, Any], lane: Lane) -> Mapping[str, Any]:
    """The fields with the service tier by whose price the lane is billed."""
    return {**fields, "service_tier": "batch"} if lane is Lane.BATCH else fields
