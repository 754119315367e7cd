"""File names that several folders of the package share, each with the one purpose that its files have in common."""

from __future__ import annotations

from collections.abc import Mapping

from tests.structure.measures import shared_file_names

__all__ = ["SHARED_PURPOSES", "purposes_missing", "purposes_unused"]

SHARED_PURPOSES: Mapping[str, str] = {
    "base.py": "the protocol of a plug point, beside its implementations",
    "connection.py": "a connection that runs the shared statements: the protocol, and the one to PostgreSQL",
    "database.py": "opens a database of one kind, upgrades its schema and words its errors",
    "datasets.py": "answers that hold across runs: the protocol, and its implementation in SQL",
    "doctor.py": "the checks of the machine, and the command that prints them",
    "dry_run.py": "the check of a job without sending it, and the command that prints it",
    "export.py": "results in a file, and the command that writes it",
    "follow.py": "a response as it grows, and the command that prints it",
    "increments.py": "rows compared with earlier answers: values, job section, decision, and the engine's part",
    "notices.py": "the outbox of notifications: the protocol, and its implementation in SQL",
    "provider_batches.py": "batches at the provider: the protocol, and its implementation in SQL",
    "purge.py": "the deletion of the provider's copies, and the command that starts it",
    "retained.py": "what a run keeps, here and at the provider: the protocol, and its implementation in SQL",
    "request_history.py": "the history of one request: its values, and its text",
    "schema.py": "the JSON Schema of files, and the command that prints it",
    "settings.py": "how something is carried out, as plain values or as a section of the config",
    "text.py": "the printed text of one use case, in the folder of that use case",
    "transaction.py": "one transaction of a writer, and what PostgreSQL does in it for many rows at a time",
}


def purposes_missing() -> list[str]:
    """Shared names without a purpose."""
    return [name for name in shared_file_names() if name not in SHARED_PURPOSES]


def purposes_unused() -> list[str]:
    """Names with a purpose that no two files share."""
    return [name for name in SHARED_PURPOSES if name not in shared_file_names()]
