"""The provider's own account of its calls, its responses and their cost, to compare a client's account with.

A response that has run to its end costs what it used, at the published prices of the day of its creation; one that
failed or was cancelled reports no usage and costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import ToolUse, Usage
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.storage.billing import bill, billed_tools
from orchestrator.sandbox.storage.response_record import ResponseRecord, has_ended, true_status, usage_at

__all__ = ["Entry", "Ledger", "entry_of"]

Json: TypeAlias = Any

# The kinds of tool use that cost fees.
_FEES = tuple(field.name for field in fields(ToolUse))


@fast_dataclass
class Entry:
    """One response in the ledger. ``cost_pusd`` is None if it has no usage or its model no published price.

    ``usable``: it answers the request. ``delivered``: the final status that a client last received.
    """

    id: str
    run: str | None
    key: str | None
    attempt: str | None
    idempotency_key: str | None
    model: str
    service_tier: str
    status: str
    usable: bool
    usage: Usage | None
    tool_use: ToolUse
    cost_pusd: Picodollars | None
    created_at: float
    ended_at: float | None
    reply_lost_by: str | None
    delivered: str | None


def entry_of(record: ResponseRecord, now: float, prices: PriceBook) -> Entry:
    """The ledger's entry for a response at a given time."""
    usage = usage_at(record, now)
    tool_use = billed_tools(record.hosted) if usage else ToolUse()
    return Entry(
        id=record.id,
        run=record.run,
        key=record.key,
        attempt=record.attempt,
        idempotency_key=record.idempotency_key,
        model=record.model,
        service_tier=record.tier,
        status=true_status(record, now),
        usable=record.usable and true_status(record, now) == record.end_status,
        usage=usage,
        tool_use=tool_use,
        cost_pusd=bill(record, usage, tool_use, prices) if usage else None,
        created_at=record.created_at,
        ended_at=_ended_at(record) if has_ended(record, now) else None,
        reply_lost_by=record.lost_by,
        delivered=record.delivered,
    )


def _ended_at(record: ResponseRecord) -> float:
    return min(record.ends_at, record.ends_at if record.cancel_asked_at is None else record.cancel_asked_at)


class Totals:
    """Sums over responses."""

    def __init__(self) -> None:
        self.responses: Counter[str] = Counter()
        self.usage = Usage()
        self.tool_use = Counter[str]()
        self.cost_pusd: Picodollars = 0
        self.unpriced = 0

    def add(self, entry: Entry, status: str) -> None:
        """Adds one response, counted under ``status``."""
        self.responses[status] += 1
        if entry.usage:
            self.usage += entry.usage
            self.tool_use.update(asdict(entry.tool_use))
            self.cost_pusd += entry.cost_pusd or 0
            self.unpriced += entry.cost_pusd is None

    def summary(self) -> dict[str, Json]:
        """The sums as JSON."""
        return {
            "responses": dict(self.responses),
            "usage": asdict(self.usage),
            "tool_use": {name: self.tool_use[name] for name in _FEES},
            "cost_pusd": self.cost_pusd,
            "cost_usd": format_usd(self.cost_pusd),
            "unpriced": self.unpriced,
        }


@dataclass(slots=True)
class EarlierResponses:
    """The earlier responses for one row of a client's run."""

    open_until: float = -math.inf
    reply_lost: bool = False
    usable: int = 0


class Ledger:
    """Adds up entries, which must come in the order of their creation.

    A request is one run and row of the client's metadata. Its duplicates are creates that came ``while_open`` (an
    earlier response to it was in progress), creates that came ``after_lost_reply`` (a fault had lost an earlier
    reply), and ``usable`` answers beyond its first, which are paid for twice.
    """

    def __init__(self) -> None:
        self._all = Totals()
        self._seen = Totals()
        self._lost: Counter[str] = Counter()
        self._requests = defaultdict[tuple[str, str], EarlierResponses](EarlierResponses)
        self._while_open = 0
        self._after_lost_reply = 0

    def add(self, entry: Entry) -> None:
        """Adds the next response."""
        self._all.add(entry, entry.status)
        # A client that received ``cancelled`` does not know the cost of a response that completes after its cancel.
        if entry.delivered is not None:
            seen = entry if entry.delivered == entry.status else replace(entry, usage=None, cost_pusd=None)
            self._seen.add(seen, entry.delivered)
        if entry.reply_lost_by:
            self._lost[entry.reply_lost_by] += 1
        if entry.run is not None and entry.key is not None:
            earlier = self._requests[entry.run, entry.key]
            self._while_open += earlier.open_until > entry.created_at
            self._after_lost_reply += earlier.reply_lost
            earlier.open_until = max(earlier.open_until, math.inf if entry.ended_at is None else entry.ended_at)
            earlier.reply_lost |= entry.reply_lost_by is not None
            earlier.usable += entry.usable

    def summary(self, counts: Mapping[str, int]) -> dict[str, Json]:
        """The whole ledger as JSON; ``counts`` are the counters of calls, by dotted names."""
        return {
            "simulated": True,
            "creates": {"accepted": 0, **_counted(counts, "create")},
            "polls": _counted(counts, "poll"),
            "cancels": _counted(counts, "cancel"),
            "deletes": _counted(counts, "delete"),
            "streams": _counted(counts, "stream"),
            "batches": {**_counted(counts, "batch"), "lines": counts.get("batch_lines", 0)},
            "other_calls": _counted(counts, "other"),
            "requests": len(self._requests),
            "duplicates": {
                "while_open": self._while_open,
                "after_lost_reply": self._after_lost_reply,
                "usable": sum(max(0, each.usable - 1) for each in self._requests.values()),
            },
            "replies_lost": {"total": self._lost.total(), **self._lost},
            **self._all.summary(),
            "seen_by_client": self._seen.summary(),
        }


def _counted(counts: Mapping[str, int], group: str) -> dict[str, Json]:
    """The counters of one kind of call: all, those refused by kind, and any others."""
    names = {name.removeprefix(f"{group}."): n for name, n in sorted(counts.items()) if name.startswith(f"{group}.")}
    refused = {name.removeprefix("refused."): n for name, n in names.items() if name.startswith("refused.")}
    plain = {name: n for name, n in names.items() if not name.startswith("refused.")}
    return {"calls": 0, **plain, "refused": {"total": sum(refused.values()), **refused}}
