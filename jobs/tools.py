"""The functions that the model calls in ``tools.yaml``: they look up orders and prices in two small tables."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["look_up_order", "price_of"]

_DATA = Path(__file__).parent / "data"


def look_up_order(number: int) -> dict[str, str] | str:
    """An order by its number. If this function raises, the model gets the error as the result."""
    return _table("shop-orders.csv", "number").get(str(number), f"There is no order {number}.")


async def price_of(product: str) -> dict[str, Any]:
    """The price of a product in dollars, and how many are in stock. A handler may also be async."""
    row = _table("shop-prices.csv", "product")[product]
    return {"product": product, "usd": float(row["usd"]), "in_stock": int(row["in_stock"])}


@cache
def _table(name: str, key: str) -> dict[str, dict[str, str]]:
    with (_DATA / name).open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}
