"""What ``doctor`` finds out about a server: settings that risk commits, and what keeps it from cleaning up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from orchestrator.stores.base import Advice

__all__ = ["advice"]

_OLD_MIN = 30
_REPLICAS = "SELECT count(*) FROM pg_stat_replication"
_OLD = f"""SELECT count(*), coalesce(max(extract(epoch FROM now() - xact_start) / 60), 0)::bigint
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < now() - interval '{_OLD_MIN} minutes'"""  # noqa: S608  # a constant


def advice(raw: psycopg.Connection[Any]) -> list[Advice]:
    """The server's version, and what should be changed."""
    return list(_advice(raw))


def _advice(raw: psycopg.Connection[Any]) -> Iterator[Advice]:
    yield Advice("postgresql", _setting(raw, "server_version"))
    if _setting(raw, "fsync") == "off":
        yield Advice(
            "fsync", "off: a crash of the server loses commits, and with them response ids", "set fsync = on"
        )
    [(replicas,)] = raw.execute(_REPLICAS).fetchall()
    if replicas and not _setting(raw, "synchronous_standby_names"):
        yield Advice(
            "replication",
            f"{replicas} asynchronous: a failover can lose the latest commits, and with them response ids",
            "set synchronous_standby_names",
        )
    [(old, minutes)] = raw.execute(_OLD).fetchall()
    if old:
        yield Advice(
            "transactions",
            f"{old} open for more than {_OLD_MIN} minutes, the oldest for {minutes}: old rows cannot be removed",
            "end them: SELECT pid, query FROM pg_stat_activity ORDER BY xact_start",
        )


def _setting(raw: psycopg.Connection[Any], name: str) -> str:
    [(value,)] = raw.execute("SELECT current_setting($1)", [name]).fetchall()
    return str(value)
