"""What to show of a running run, independent of how it is drawn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.events import Progress
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.core.printable import printable
from orchestrator.core.states import SETTLED, State
from orchestrator.report import formatting
from orchestrator.report.live_tally import Tallied

__all__ = [
    "Throughput",
    "View",
    "call_texts",
    "counts_texts",
    "failure_texts",
    "lane_text",
    "latest_failure_text",
    "plain_line",
    "rate_texts",
    "stage_texts",
    "total_text",
    "view_object",
    "view_of",
]

_WINDOW_S = 20.0
_ENOUGH = 5
# The percentage of a budget from which its use is shown.
_SHOWN_FROM = 50
_LONGEST_KEY = 40
_NOTHING = Tallied()
_WAITS = {
    "rate limit": "held back by the rate limit",
    "budget": "the budget is reserved; waiting for charges to settle",
    "outage": "the provider does not answer",
}


@dataclass(slots=True)
class Throughput:
    """How many requests settle per second: recently if enough did, else since the start."""

    _first: tuple[float, int] | None = None
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, now: float, settled: int) -> None:
        """Record that ``settled`` requests had ended by ``now``."""
        self._first = self._first or (now, settled)
        self._recent.append((now, settled))
        while len(self._recent) > 2 and self._recent[1][0] <= now - _WINDOW_S:
            self._recent.popleft()

    def per_second(self) -> float | None:
        """Returns ``None`` while too little is known."""
        if self._first is None:
            return None
        now, settled = self._recent[-1]
        since = self._recent[0] if settled - self._recent[0][1] >= _ENOUGH else self._first
        elapsed, done = now - since[0], settled - since[1]
        return done / elapsed if done > 0 and elapsed >= 1 else None


@fast_dataclass
class View:
    """All that a display shows at one time; ``None`` is "not known yet".

    ``total`` still grows while ``reading`` is true. ``budget_used`` names the most used budget, with the percentage.
    ``waiting`` is a sentence that says what delays sending.
    """

    run: str
    total: int
    reading: bool
    settled: int
    succeeded: int
    failed: int
    cancelled: int
    in_doubt: int
    in_flight: int
    per_second: float | None
    left_s: float | None
    tokens: int
    cost_pusd: Picodollars
    cost_unknown: int
    projected_pusd: Picodollars | None
    budget_pusd: Picodollars | None
    budget_used: tuple[str, int] | None
    waiting: str | None
    stopping: bool
    lanes: tuple[str, ...] = ()
    # Of a job with stages: name, settled requests, and all that it has so far.
    stages: tuple[tuple[str, int, int], ...] = ()
    polls: int = 0
    rate_limited: int = 0
    tallied: Tallied = Tallied()


def view_of(progress: Progress, throughput: Throughput, now: float, tallied: Tallied = _NOTHING) -> View:
    """Returns what to show now, and records the throughput."""
    counts = progress.requests
    settled = sum(counts[state] for state in SETTLED)
    total = max(counts.total(), progress.planned)
    throughput.note(now, progress.settled_here)
    per_second = throughput.per_second()
    known = progress.planning_done and settled > 0
    return View(
        run=progress.run,
        total=total,
        reading=not progress.planning_done,
        settled=settled,
        succeeded=counts[State.SUCCEEDED],
        failed=counts[State.FAILED],
        cancelled=counts[State.CANCELLED],
        in_doubt=counts[State.IN_DOUBT],
        in_flight=counts[State.SUBMITTING] + counts[State.SUBMITTED] + counts[State.AWAITING_TOOLS],
        per_second=per_second,
        left_s=(total - settled) / per_second if known and per_second else None,
        tokens=progress.usage.total_tokens,
        cost_pusd=progress.cost_pusd,
        cost_unknown=progress.cost_unknown,
        projected_pusd=progress.cost_pusd * total // settled if known and settled < total else None,
        budget_pusd=progress.budget_pusd,
        budget_used=progress.budget_used,
        waiting=_waiting(progress, now),
        stopping=progress.stopping,
        lanes=progress.lanes,
        stages=tuple(
            (name, sum(states[state] for state in SETTLED), states.total())
            for name, states in progress.stages.items()
        ),
        polls=progress.polls,
        rate_limited=progress.rate_limited,
        tallied=tallied,
    )


def _waiting(progress: Progress, now: float) -> str | None:
    if progress.waiting_for is None:
        return None
    text = _WAITS.get(progress.waiting_for, f"waiting for {progress.waiting_for}")
    left_s = (progress.waiting_until or now) - now
    # Short waits occur with every request; only waits that a person can notice have a number.
    return f"{text}; next try in {formatting.duration(left_s)}" if left_s >= 1 else text


def counts_texts(view: View) -> list[str]:
    """Returns ``["1,197 succeeded", "3 failed", "200 in flight"]``."""
    texts = [f"{formatting.count(view.succeeded)} succeeded", f"{formatting.count(view.failed)} failed"]
    if view.cancelled:
        texts.append(f"{formatting.count(view.cancelled)} cancelled")
    if view.in_doubt:
        texts.append(f"{formatting.count(view.in_doubt)} in doubt")
    return [*texts, f"{formatting.count(view.in_flight)} in flight"]


def stage_texts(view: View) -> list[str]:
    """Returns ``["facts 12 of 18", "brief 0 of 5"]``; stages without a request yet are left out."""
    return [
        f"{name} {formatting.count(settled)} of {formatting.count(total)}"
        for name, settled, total in view.stages
        if total
    ]


def rate_texts(view: View) -> list[str]:
    """Returns ``["84.0 rows/s", "1.23 M tokens", "$0.4213", "about $0.65 in all"]``."""
    texts = [formatting.rate(view.per_second)] if view.per_second else []
    unknown = f" + {formatting.count(view.cost_unknown)} of unknown cost" if view.cost_unknown else ""
    texts += [f"{formatting.short_count(view.tokens)} tokens", f"{formatting.short_dollars(view.cost_pusd)}{unknown}"]
    if view.projected_pusd:
        texts.append(f"about {formatting.short_dollars(view.projected_pusd)} in all")
    if view.budget_pusd is not None:
        texts.append(f"budget {formatting.dollars(view.budget_pusd)}")
    if view.budget_used is not None and view.budget_used[1] >= _SHOWN_FROM:
        scope, percent = view.budget_used
        texts.append(f"{percent} % of the {scope}'s budget used")
    return texts


def call_texts(view: View) -> list[str]:
    """Returns ``["884 polls", "5 rate-limited (429)", "answers in 14 s, p95 31 s"]``."""
    texts = [f"{formatting.count(view.polls)} polls"] if view.polls else []
    if view.rate_limited:
        texts.append(f"{formatting.count(view.rate_limited)} rate-limited (429)")
    median_s, p95_s = view.tallied.median_s, view.tallied.p95_s
    if median_s is not None and p95_s is not None:
        texts.append(f"answers in {formatting.duration(median_s)}, p95 {formatting.duration(p95_s)}")
    return texts


def failure_texts(view: View) -> list[str]:
    """Returns ``["refusal 2", "server_error 1", "40 others", "3 earlier"]``; earlier are those of other processes."""
    tallied = view.tallied
    texts = [f"{_short(code)} {formatting.count(number)}" for code, number in tallied.failures]
    if tallied.other_failures:
        texts.append(f"{formatting.count(tallied.other_failures)} others")
    earlier = view.failed - tallied.other_failures - sum(number for _, number in tallied.failures)
    return [*texts, f"{formatting.count(earlier)} earlier"] if texts and earlier > 0 else texts


def latest_failure_text(view: View) -> str | None:
    """Returns ``row-17: refusal``; None if no row has failed in this process."""
    latest = view.tallied.latest_failure
    return None if latest is None else f"{_short(latest[0])}: {_short(latest[1])}"


def _short(text: str) -> str:
    """A key or a code on one line, without what would move the cursor."""
    line = printable(" ".join(text[: 4 * _LONGEST_KEY].split()))
    return line if len(line) <= _LONGEST_KEY else f"{line[: _LONGEST_KEY - 1]}…"


def total_text(view: View) -> str:
    """Returns ``1,200 of 1,863``; with a plus while the input is still being read."""
    return f"{formatting.count(view.settled)} of {formatting.count(view.total)}{'+' if view.reading else ''}"


def lane_text(view: View) -> str:
    """Returns ``lane sync``; nothing if all requests are sent to the background, as usual."""
    return "" if view.lanes in ((), ("background",)) else f"lane {' and '.join(view.lanes)}"


def plain_line(view: View) -> str:
    """Returns the whole view as one line of text."""
    parts = [f"{view.run}: {total_text(view)} settled", *counts_texts(view), *stage_texts(view), *rate_texts(view)]
    parts += call_texts(view)
    if codes := failure_texts(view):
        parts.append(f"failures: {' and '.join(codes)}")
    if view.left_s is not None:
        parts.append(f"{formatting.duration(view.left_s)} left")
    if lane := lane_text(view):
        parts.append(lane)
    if view.waiting:
        parts.append(view.waiting)
    if view.stopping:
        parts.append("stopping")
    return ", ".join(parts)


def view_object(view: View) -> dict[str, Any]:
    """Returns the view as fields of a log line."""
    return {
        "run": view.run,
        "total": view.total,
        "reading": view.reading,
        "succeeded": view.succeeded,
        "failed": view.failed,
        "cancelled": view.cancelled,
        "in_doubt": view.in_doubt,
        "in_flight": view.in_flight,
        "rows_per_s": None if view.per_second is None else round(view.per_second, 2),
        "left_s": None if view.left_s is None else round(view.left_s),
        "total_tokens": view.tokens,
        "cost_usd": format_usd(view.cost_pusd),
        "cost_unknown": view.cost_unknown,
        "projected_usd": None if view.projected_pusd is None else format_usd(view.projected_pusd),
        "budget_used_percent": None if view.budget_used is None else view.budget_used[1],
        "waiting": view.waiting,
        "stopping": view.stopping,
        "lane": " and ".join(view.lanes),
        "polls": view.polls,
        "rate_limited": view.rate_limited,
        "median_s": None if view.tallied.median_s is None else round(view.tallied.median_s, 3),
        **({"failures": dict(view.tallied.failures)} if view.tallied.failures else {}),
        **({"stages": {name: [settled, total] for name, settled, total in view.stages}} if view.stages else {}),
    }
