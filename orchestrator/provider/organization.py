"""The organization's account at the provider, read from a file or fetched with an admin key.

The format is that of ``GET /organization/costs`` and ``GET /organization/usage/completions``: pages of buckets, each
with a start, an end and results. An amount is a number or a text, and other fields of a result are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, NonNegativeInt, ValidationError

from orchestrator.core.money import PICODOLLARS_PER_DOLLAR
from orchestrator.core.problems import Problem, ReplyLost
from orchestrator.provider.provider_account import ProviderAccount, ReportedCost, ReportedUsage
from orchestrator.provider.refusal import parse_refusal
from orchestrator.provider.reply_json import read_json
from orchestrator.provider.transport import Transport, TransportError

__all__ = ["OrganizationClient", "UnreadableAccount", "read_account"]

_SECONDS_A_DAY = 86_400
_COSTS, _USAGE = "/organization/costs", "/organization/usage/completions"
# The most daily buckets in one page of each.
_MOST_BUCKETS = {_COSTS: 180, _USAGE: 31}


class UnreadableAccount(Exception):
    """The data is not an account; the message says why."""


class _Amount(BaseModel):
    value: Decimal
    currency: str = "usd"


class _Cost(BaseModel):
    amount: _Amount
    line_item: str | None = None


class _Usage(BaseModel):
    input_tokens: NonNegativeInt
    output_tokens: NonNegativeInt
    input_cached_tokens: NonNegativeInt = 0
    num_model_requests: NonNegativeInt = 0
    model: str | None = None


class _Bucket(BaseModel):
    start_time: float
    end_time: float
    results: list[dict[str, Any]]


class _Page(BaseModel):
    data: list[_Bucket]
    next_page: str | None = None


def read_account(data: bytes) -> ProviderAccount:
    """Reads an account from JSON: a page, a list of pages, or a page per line; raises ``UnreadableAccount``."""
    pages: list[_Page] = []
    for document in _documents(data):
        try:
            pages.append(_Page.model_validate(document))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "the document"
            raise UnreadableAccount(f"{where} is not as in a page of the organization's costs or usage") from None
    return _account(pages)


class OrganizationClient:
    """Reads the organization's account; the transport sends an admin key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def account(self, first_day: str, last_day: str) -> ProviderAccount | Problem:
        """Returns what the provider reports from the first day (UTC) to the last one."""
        start = int(datetime.fromisoformat(first_day).replace(tzinfo=UTC).timestamp())
        end = int(datetime.fromisoformat(last_day).replace(tzinfo=UTC).timestamp()) + _SECONDS_A_DAY
        pages: list[_Page] = []
        for path, more in ((_COSTS, {}), (_USAGE, {"group_by[]": "model"})):
            found = await self._pages(path, {"start_time": start, "end_time": end, **more})
            if not isinstance(found, list):
                return found
            pages += found
        return _account(pages)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    async def _pages(self, path: str, query: Mapping[str, Any]) -> list[_Page] | Problem:
        pages: list[_Page] = []
        asked = {**query, "bucket_width": "1d", "limit": _MOST_BUCKETS[path]}
        seen: set[str] = set()
        while True:
            try:
                reply = await self._transport.call("GET", f"{path}?{urlencode(asked)}")
            except TransportError as error:
                return error.problem
            if reply.status >= 300:
                return parse_refusal(reply, now=0.0)
            try:
                page = _Page.model_validate(read_json(reply.body)[0])
            except ValueError:  # pydantic's errors are of this kind, too
                return ReplyLost(reason=f"the reply is not a page of {path}", status=reply.status)
            pages.append(page)
            # Otherwise a server that repeats a page would be asked forever.
            if not page.next_page or page.next_page in seen:
                return pages
            seen.add(page.next_page)
            asked["page"] = page.next_page


def _documents(data: bytes) -> Iterator[Any]:
    try:
        whole = read_json(data)[0]
    except ValueError:
        try:
            yield from (read_json(line)[0] for line in data.splitlines() if line.strip())
        except ValueError:
            raise UnreadableAccount("it is not JSON") from None
        return
    yield from whole if isinstance(whole, list) else [whole]


def _account(pages: Iterable[_Page]) -> ProviderAccount:
    costs: list[ReportedCost] = []
    usage: list[ReportedUsage] = []
    kinds: set[str] = set()
    days: set[str] = set()
    for bucket in (bucket for page in pages for bucket in page.data):
        if bucket.end_time - bucket.start_time > _SECONDS_A_DAY:
            raise UnreadableAccount("its buckets are longer than a day; ask for bucket_width=1d")
        day = datetime.fromtimestamp(bucket.start_time, UTC).date().isoformat()
        days.add(day)
        for result in bucket.results:
            kind = str(result.get("object"))
            kinds.add(kind)
            try:
                if kind == "organization.costs.result":
                    costs.append(_cost(day, _Cost.model_validate(result)))
                elif kind == "organization.usage.completions.result":
                    usage.append(_usage(day, _Usage.model_validate(result)))
            except ValidationError as error:
                field = ".".join(map(str, error.errors()[0]["loc"]))
                raise UnreadableAccount(f"a result of {day} has no readable {field}") from None
    known = {"organization.costs.result", "organization.usage.completions.result"}
    if kinds and not kinds & known:
        raise UnreadableAccount(f"it holds {', '.join(sorted(kinds))}, and neither costs nor usage of completions")
    return ProviderAccount(
        costs=tuple(costs) if "organization.costs.result" in kinds else None,
        usage=tuple(usage) if "organization.usage.completions.result" in kinds else None,
        days=frozenset(days),
    )


def _cost(day: str, result: _Cost) -> ReportedCost:
    if result.amount.currency.lower() != "usd":
        raise UnreadableAccount(f"its amounts are in {result.amount.currency}, not in US dollars")
    exact = Fraction(result.amount.value) * PICODOLLARS_PER_DOLLAR
    return ReportedCost(day=day, amount_pusd=round(exact), line_item=result.line_item)


def _usage(day: str, result: _Usage) -> ReportedUsage:
    return ReportedUsage(
        day=day,
        model=result.model,
        requests=result.num_model_requests,
        input_tokens=result.input_tokens,
        cached_tokens=result.input_cached_tokens,
        output_tokens=result.output_tokens,
    )
