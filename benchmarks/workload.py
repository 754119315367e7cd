"""A job for the product: rows, job file and config file, written into a folder."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.words import passage

__all__ = ["ROWS_OF_A_GROUP", "Workload"]

# Limits that never delay anything: the rate limiter runs, but has nothing to do.
_NO_LIMIT = {"requests_per_minute": 100_000_000, "tokens_per_minute": 100_000_000_000}
PLENTIFUL_POLLS = 6_000_000
ROWS_OF_A_GROUP = 10


def _asked(model: str, template: str) -> dict[str, Any]:
    return {"model": model, "input": template, "max_output_tokens": 300}


# As the prompts of later stages, which repeat an answer beside the row.
_TWO_COLUMNS = "{{ section }} {{ text }}"
_STAGES: dict[str, Any] = {
    "facts": {"from": "input", "request": _asked("gpt-5-nano", _TWO_COLUMNS)},
    "checked": {"from": "facts", "request": _asked("gpt-5-mini", "{{ text }} {{ facts }}")},
    "digest": {
        "from": "checked",
        "group_by": "section",
        "request": _asked("gpt-5", "{{ section }}{% for row in rows %} {{ row.checked }}{% endfor %}"),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The number of rows, the size of their prompts, and how to send them."""

    rows: int
    in_flight: int = 200
    prompt_bytes: int = 200
    polls_per_minute: int = PLENTIFUL_POLLS
    increments: bool = False
    # Whether create calls are held until the answer is there.
    held: bool = False
    # Three stages in place of one request: two for each row, and one for each ten rows.
    stages: bool = False
    # A prompt of two columns in place of one that is a column and nothing else.
    two_columns: bool = False
    requests_per_minute: int = _NO_LIMIT["requests_per_minute"]

    @property
    def requests(self) -> int:
        """How many requests the job makes."""
        return 2 * self.rows + -(-self.rows // ROWS_OF_A_GROUP) if self.stages else self.rows

    def write(self, folder: Path, base_url: str) -> int:
        """Writes ``rows.jsonl``, ``job.yaml`` and ``config.yaml``; returns the bytes of the rows."""
        rng = random.Random(2)
        with (folder / "rows.jsonl").open("w") as file:
            for number in range(self.rows):
                # All different, because duplicates are sent once.
                text = f"{number} {passage(rng, self.prompt_bytes)}"[: self.prompt_bytes]
                section = f',"section":"{number // ROWS_OF_A_GROUP}"' if self.stages or self.two_columns else ""
                file.write(f'{{"id":"row-{number:07}","text":"{text}"{section}}}\n')
        self.write_config(folder, base_url)
        prompt = _TWO_COLUMNS if self.two_columns else "{{ text }}"
        # JSON is also YAML.
        job: dict[str, Any] = {
            "name": "benchmark",
            "input": {"path": "rows.jsonl", "key": "id"},
            **({"stages": _STAGES} if self.stages else {"request": _asked("gpt-5-mini", prompt)}),
        }
        if self.held:
            job["lane"] = "sync"
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
                "requests_per_minute": self.requests_per_minute,
                "polls_per_minute": self.polls_per_minute,
                "max_in_flight": self.in_flight,
            },
            "lanes": {"sync": {"at_once": self.in_flight}},
        }
        (folder / "config.yaml").write_text(json.dumps(config))
