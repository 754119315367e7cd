"""What costs can be summed by. It imports next to nothing, because ``--help`` prints the list."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.errors import UsageError

__all__ = ["COST_GROUPINGS", "METADATA_GROUPING", "check_groupings"]

COST_GROUPINGS = ("run", "model", "tier", "day", "stage", "state", "lane", "endpoint")
# Begins the grouping by a field of the user's own metadata.
METADATA_GROUPING = "metadata."


def check_groupings(by: Sequence[str]) -> None:
    """Raises ``UsageError`` for what costs cannot be summed by."""
    for grouping in by:
        if grouping not in COST_GROUPINGS and grouping.removeprefix(METADATA_GROUPING) in ("", grouping):
            raise UsageError(
                f"costs cannot be grouped by {grouping!r}",
                hint=f"they can be grouped by {', '.join(COST_GROUPINGS)}, {METADATA_GROUPING}FIELD",
            )
