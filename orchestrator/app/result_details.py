"""Results together with their rows and their responses, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from orchestrator.stores.base import ResultReader
from orchestrator.stores.reads import ResultRecord

__all__ = ["with_details"]

_PAGE = 200


async def with_details(
    records: AsyncIterator[ResultRecord], reader: ResultReader, *, bodies: bool
) -> AsyncIterator[ResultRecord]:
    """The same records with ``details``; those of a row that is gone meanwhile are None."""
    async for page in _pages(records):
        while page:
            found = await reader.details([each.request_id for each in page], with_bodies=bodies)
            # Of long bodies it may be only the first of those that were asked for.
            end = max((place for place, each in enumerate(page, 1) if each.request_id in found), default=len(page))
            for record in page[:end]:
                yield replace(record, details=found.get(record.request_id))
            page = page[end:]


async def _pages(records: AsyncIterator[ResultRecord]) -> AsyncIterator[list[ResultRecord]]:
    page: list[ResultRecord] = []
    async for record in records:
        page.append(record)
        if len(page) == _PAGE:
            yield page
            page = []
    yield page
