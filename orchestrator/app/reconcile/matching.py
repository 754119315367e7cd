"""Holds what was charged here against what the provider's account says, day by day, and explains what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Bound, Picodollars
from orchestrator.provider.provider_account import ProviderAccount

__all__ = ["CostLine", "OwnDay", "Reason", "Reconciliation", "Tokens", "UsageLine", "reconcile"]

# Accounts are kept in fractions of a cent: each of their amounts may be wrong by this much.
_ROUNDING: Picodollars = 1_000_000


class Reason(StrEnum):
    """Why two figures differ, as far as the figures show."""

    AGREES = "agrees"
    UNKNOWN_HERE = "unknown-here"
    ESTIMATED_HERE = "estimated-here"
    ANOTHER_DAY = "another-day"
    PRICE = "price"
    ELSEWHERE = "elsewhere"
    NOT_REPORTED = "not-booked"


@fast_dataclass
class Tokens:
    """How much was used."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    def is_within(self, other: Tokens) -> bool:
        """Whether no figure is larger than the other's."""
        return (
            self.requests <= other.requests
            and self.input_tokens <= other.input_tokens
            and self.cached_tokens <= other.cached_tokens
            and self.output_tokens <= other.output_tokens
        )


@fast_dataclass
class OwnDay:
    """What was charged here for one model on one day. ``unknown`` responses have no known cost, and this bound.

    ``estimated_pusd`` is the part of the cost that follows from an estimated price.
    """

    day: str
    model: str
    tokens: Tokens
    cost_pusd: Picodollars
    unknown: int
    bound: Bound = Bound()
    estimated_pusd: Picodollars = 0


@fast_dataclass
class CostLine:
    """One day's costs, here and at the provider."""

    day: str
    own_pusd: Picodollars
    unknown: int
    bound: Bound
    reported_pusd: Picodollars
    reason: Reason
    estimated_pusd: Picodollars = 0

    @property
    def difference_pusd(self) -> Picodollars:
        """What the provider has more."""
        return self.reported_pusd - self.own_pusd


@fast_dataclass
class UsageLine:
    """One day's tokens, here and at the provider; ``model`` is None if it does not separate models."""

    day: str
    model: str | None
    own: Tokens
    reported: Tokens
    reason: Reason


@fast_dataclass
class Reconciliation:
    """The comparison; ``uncovered`` are days with charges here that the account does not cover."""

    costs: tuple[CostLine, ...]
    usage: tuple[UsageLine, ...]
    uncovered: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing is left that only a person can explain."""
        open_ones = {Reason.PRICE, Reason.ELSEWHERE, Reason.NOT_REPORTED}
        reasons = {line.reason for line in self.costs} | {line.reason for line in self.usage}
        return not self.uncovered and not reasons & open_ones


def reconcile(own: Sequence[OwnDay], account: ProviderAccount) -> Reconciliation:
    """Compare by day, and tokens also by model, over the days that the account covers."""
    covered = [each for each in own if each.day in account.days]
    usage = _usage_lines(covered, account)
    return Reconciliation(
        costs=_cost_lines(covered, account, same_tokens=_days_of_same_tokens(usage)),
        usage=usage,
        uncovered=tuple(sorted({each.day for each in own} - account.days)),
    )


# ── costs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _cost_lines(
    own: Sequence[OwnDay], account: ProviderAccount, *, same_tokens: frozenset[str]
) -> tuple[CostLine, ...]:
    if account.costs is None:
        return ()
    lines: list[CostLine] = []
    rounding: dict[str, Picodollars] = {}
    for day in sorted(account.days):
        ours = [each for each in own if each.day == day]
        reported = [each.amount_pusd for each in account.costs if each.day == day]
        if not ours and not any(reported):
            continue
        rounding[day] = _ROUNDING * max(1, len(reported))
        line = CostLine(
            day=day,
            own_pusd=sum(each.cost_pusd for each in ours),
            unknown=sum(each.unknown for each in ours),
            bound=sum((each.bound for each in ours), Bound()),
            estimated_pusd=sum(each.estimated_pusd for each in ours),
            reported_pusd=sum(reported),
            reason=Reason.AGREES,
        )
        lines.append(_with_reason(line, rounding[day], same_tokens=day in same_tokens))
    return tuple(_moved_to_another_day(lines, rounding))


def _with_reason(line: CostLine, rounding: Picodollars, *, same_tokens: bool) -> CostLine:
    more = line.difference_pusd
    if abs(more) <= rounding:
        reason = Reason.AGREES
    elif more > 0 and _can_be_unknown_cost(more - rounding, line.bound):
        reason = Reason.UNKNOWN_HERE
    elif abs(more) <= line.estimated_pusd + rounding and same_tokens:
        reason = Reason.ESTIMATED_HERE
    elif same_tokens:
        reason = Reason.PRICE
    else:
        reason = Reason.ELSEWHERE if more > 0 else Reason.NOT_REPORTED
    return replace(line, reason=reason)


def _can_be_unknown_cost(more: Picodollars, bound: Bound) -> bool:
    """Whether responses of unknown cost can have taken this much; one without a bound can have taken anything."""
    return bound.pusd is None or more <= bound.pusd


def _moved_to_another_day(lines: list[CostLine], rounding: Mapping[str, Picodollars]) -> list[CostLine]:
    """What one day lacks and the next one has too much was reported on the other side of midnight."""
    open_ones = (Reason.ELSEWHERE, Reason.NOT_REPORTED)
    for index in range(len(lines) - 1):
        one, other = lines[index], lines[index + 1]
        slack = rounding[one.day] + rounding[other.day] + one.bound.bounded_pusd + other.bound.bounded_pusd
        opposite = {one.reason, other.reason} == set(open_ones)
        if opposite and abs(one.difference_pusd + other.difference_pusd) <= slack:
            lines[index : index + 2] = [replace(each, reason=Reason.ANOTHER_DAY) for each in (one, other)]
    return lines


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────


def _usage_lines(own: Sequence[OwnDay], account: ProviderAccount) -> tuple[UsageLine, ...]:
    if account.usage is None:
        return ()
    by_model = all(each.model is not None for each in account.usage)
    ours = _summed(((each.day, each.model if by_model else None), each.tokens) for each in own)
    unknown = {(each.day, each.model if by_model else None) for each in own if each.unknown}
    reported = _summed(
        (
            (each.day, each.model if by_model else None),
            Tokens(
                requests=each.requests,
                input_tokens=each.input_tokens,
                cached_tokens=each.cached_tokens,
                output_tokens=each.output_tokens,
            ),
        )
        for each in account.usage
    )
    lines = []
    for key in sorted({*ours, *reported}, key=lambda each: (each[0], each[1] or "")):
        here, there = ours.get(key, Tokens()), reported.get(key, Tokens())
        lines.append(
            UsageLine(
                day=key[0], model=key[1], own=here, reported=there, reason=_why(here, there, unknown=key in unknown)
            )
        )
    return tuple(lines)


def _why(here: Tokens, there: Tokens, *, unknown: bool) -> Reason:
    # Attempts without usage are requests here, and may be none, or have tokens, there.
    if (here.input_tokens, here.cached_tokens, here.output_tokens) == (
        there.input_tokens,
        there.cached_tokens,
        there.output_tokens,
    ):
        return Reason.AGREES
    if not here.is_within(there) and there.is_within(here):
        return Reason.NOT_REPORTED
    return Reason.UNKNOWN_HERE if unknown else Reason.ELSEWHERE


def _summed(
    pairs: Iterable[tuple[tuple[str, str | None], Tokens]],
) -> dict[tuple[str, str | None], Tokens]:
    sums: dict[tuple[str, str | None], Tokens] = {}
    for key, tokens in pairs:
        sums[key] = sums.get(key, Tokens()) + tokens
    return sums


def _days_of_same_tokens(usage: Sequence[UsageLine]) -> frozenset[str]:
    differing = {line.day for line in usage if line.reason is not Reason.AGREES}
    return frozenset({line.day for line in usage} - differing)
