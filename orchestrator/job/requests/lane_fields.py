"""What a lane adds to the fields of a create call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.lanes import WINDOWS, Lane

__all__ = ["in_lane"]


def in_lane(fields: Mapping[str, Any], lane: Lane) -> Mapping[str, Any]:
    """The fields as the lane sends them. It is no part of what is asked, so lanes share fingerprints and answers."""
    if lane is Lane.FLEX:
        return {**fields, "service_tier": "flex"}
    if lane in WINDOWS:
        options = fields.get("background_options")
        given = options if isinstance(options, dict) else {}
        return {**fields, "background_options": {**given, "completion_window": WINDOWS[lane][0]}}
    return fields
