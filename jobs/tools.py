"""What the model may look up in ``tools.yaml``: the orders and the prices of a shop, in two small tables."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["look_up_order", "price_of"]

_DATA = Path(__file__).parent / "data"


def look_up_order(number: int) -> dict[str, str] | str:
    """An order by its number. If a handler raises an exception, the model receives the error as its result."""
    return _table("shop-orders.csv", "number").get(str(number), f"There is no order {number}.")


async def price_of(product: str) -> dict[str, Any]:
    """The price of a product in dollars, and how many are in stock. A handler may be async, too."""
    row = _table("shop-prices.csv", "product")[product]
    return {"product": product, "usd": float(row["usd"]), "in_stock": int(row["in_stock"])}


@cache
def _table(name: str, key: str) -> dict[str, dict[str, str]]:
    with (_DATA / name).open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}
