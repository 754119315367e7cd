"""What the runs of a database have spent together, in one snapshot."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.stores.reads import SharedCaps, Spending
from orchestrator.stores.sql.connection import SqlConnection
from orchestrator.stores.sql.queries import queries

__all__ = ["day_of", "spending"]

_SQL = queries("shared_budget.sql")
_SECONDS_A_DAY = 86_400


def day_of(at: float) -> int:
    """The day of a time, counted since 1970-01-01, in UTC."""
    return int(at // _SECONDS_A_DAY)


def spending(caps: SharedCaps, at: float, connection: SqlConnection) -> Spending:
    """What is spent in the day and the month of a time, and set aside now."""
    first_of_month = day_of(datetime.fromtimestamp(at, UTC).replace(day=1).timestamp())
    chosen = {"day": day_of(at), "first_of_month": first_of_month, "simulated": int(caps.simulated)}
    # In this order: what is charged between the two is counted twice rather than not at all.
    aside = dict(connection.execute(_SQL["set_aside"], chosen).fetchall())
    day_pusd, month_pusd = connection.execute(_SQL["spent"], chosen).fetchone()
    own_pusd = aside.pop(caps.run_id, 0)
    run_pusd = 0
    if caps.run_pusd is not None:
        [run_pusd] = connection.execute(_SQL["spent_by_run"], {"run_id": caps.run_id}).fetchone()
    return Spending(
        day_pusd=day_pusd,
        month_pusd=month_pusd,
        own_pusd=own_pusd,
        elsewhere_pusd=sum(aside.values()),
        holders=tuple(aside),
        run_pusd=run_pusd,
        day=day_of(at),
        first_of_month=first_of_month,
    )
