"""A job for the product: rows, job file and config file, written into a folder."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.words import passage

__all__ = ["Workload"]

# Limits that never delay anything: the rate limiter runs, but has nothing to do.
_NO_LIMIT = {"requests_per_minute": 100_000_000, "tokens_per_minute": 100_000_000_000}
PLENTIFUL_POLLS = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The number of rows, the size of their prompts, and how to send them."""

    rows: int
    in_flight: int = 200
    prompt_bytes: int = 200
    polls_per_minute: int = PLENTIFUL_POLLS
    increments: bool = False

    def write(self, folder: Path, base_url: str) -> int:
        """Writes ``rows.jsonl``, ``job.yaml`` and ``config.yaml``; returns the bytes of the rows."""
        rng = random.Random(2)
        with (folder / "rows.jsonl").open("w") as file:
            for number in range(self.rows):
                # All different, because duplicates are sent once.
                text = f"{number} {passage(rng, self.prompt_bytes)}"[: self.prompt_bytes]
                file.write(f'{{"id":"row-{number:07}","text":"{text}"}}\n')
        self.write_config(folder, base_url)
        # JSON is also YAML.
        job: dict[str, Any] = {
            "name": "benchmark",
            "input": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 300},
        }
        if self.increments:
            job["increments"] = {}
        (folder / "job.yaml").write_text(json.dumps(job))
        return (folder / "rows.jsonl").stat().st_size

    def write_config(self, folder: Path, base_url: str) -> None:
        """Writes ``config.yaml``, for example to point the job to another server."""
        config: dict[str, Any] = {
            "provider": {"base_url": base_url, "api_key_env": None},
            "limits": {
                **_NO_LIMIT,
                "polls_per_minute": self.polls_per_minute,
                "max_in_flight": self.in_flight,
            },
        }
        (folder / "config.yaml").write_text(json.dumps(config))
