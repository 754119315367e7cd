"""A pipeline of three stages for tests, and what it must ask: evaluated in memory, with nothing of the product."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.core.states import State
from orchestrator.stores.sql.compression import unpack_row

__all__ = ["ARTICLE", "DIGEST", "FACTS", "STAGES", "Stored", "asked", "naive", "some_rows", "three_stages"]

STAGES = ("facts", "article", "digest")
FACTS = "F {{ title }} {{ item }}"
ARTICLE = "A {{ title }}{% for row in rows %}|{{ row.facts }}{% endfor %}"
DIGEST = "D {{ section }}{% for row in rows %}|{{ row.title }} {{ row.article }}{% endfor %}"


def asked(template: str, model: str = "gpt-5-mini") -> dict[str, Any]:
    return {"model": model, "input": template, "max_output_tokens": 3_000}


def three_stages(missing: str = "any", **last: Any) -> dict[str, Any]:
    return {
        "facts": {"from": "input", "expand": {"list": "{{ parts }}"}, "request": asked(FACTS, "gpt-5-nano")},
        "article": {"from": "facts", "group_by": "parent", "missing": missing, "request": asked(ARTICLE)},
        "digest": {"from": "article", "group_by": "section", "missing": missing, "request": asked(DIGEST), **last},
    }


def some_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{number}",
            "title": f"title {number}",
            "section": rng.choice("ab"),
            "parts": [f"part {number}-{part}" for part in range(rng.randint(0, 4))],
        }
        for number in range(count)
    ]


@dataclass
class Stored:
    """What the database holds of a run: requests and answers by stage and key."""

    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def read(cls, database: Path) -> Stored:
        stored = cls()
        with closing(sqlite3.connect(database)) as connection:
            found = connection.execute(
                "SELECT stage, key, state, data, output_text FROM request JOIN input_row ON request_id = request.id"
                " LEFT JOIN result ON attempt_id = coalesce(answered_by, request.id * 1000000 + number)"
            )
            for stage, key, state, data, text in found:
                stored.rows[stage, key] = json.loads(unpack_row(data))
                stored.states[stage, key] = State(state)
                if state == "succeeded":
                    stored.answers[stage, key] = text or ""
        return stored

    def asked(self, stage: str) -> Counter[str]:
        """What was asked at a stage: keys with the text that its template makes."""
        return Counter(
            f"{key}: {_text(stage, row)}"
            for (at, key), row in self.rows.items()
            if at == stage and ("rows" in row or stage == "facts")
        )


def _text(stage: str, row: dict[str, Any]) -> str:
    if stage == "facts":
        return f"F {row['title']} {row['item']}"
    if stage == "article":
        return f"A {row['title']}" + "".join(f"|{each['facts']}" for each in row["rows"])
    return f"D {row['section']}" + "".join(f"|{each['title']} {each['article']}" for each in row["rows"])


def naive(rows: list[dict[str, Any]], stored: Stored) -> dict[str, Counter[str]]:
    """What must have been asked, given the answers: loops over the rows, and nothing of the product."""
    wanted: dict[str, Counter[str]] = defaultdict(Counter)
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        facts = []
        for number, part in enumerate(row["parts"], start=1):
            key = f"{row['id']}#{number}"
            wanted["facts"][f"{key}: F {row['title']} {part}"] += 1
            if ("facts", key) in stored.answers:
                facts.append(stored.answers["facts", key])
        if facts:
            wanted["article"][f"{row['id']}: A {row['title']}" + "".join(f"|{each}" for each in facts)] += 1
        if ("article", row["id"]) in stored.answers:
            sections[row["section"]].append((row["title"], stored.answers["article", row["id"]]))
    for section, members in sections.items():
        text = "".join(f"|{title} {answer}" for title, answer in members)
        wanted["digest"][f"{section}: D {section}{text}"] += 1
    return wanted
