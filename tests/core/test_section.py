"""The texts that document the fields of a section, for JSON schemas and the documentation."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from orchestrator.core.section import Section


class Inner(Section):
    """How it works."""

    depth: int = 1
    """How deep it goes,
    in meters."""
    plain: str = ""


class Outer(Inner):
    inner: Inner = Inner()
    """How it works."""
    other: Inner = Inner()
    """How the other one works."""
    kind: str = Field(default="", alias="class")
    """A word that is reserved in Python."""


def test_a_field_is_documented_by_the_docstring_below_it() -> None:
    assert Inner.field_docs() == {"depth": "How deep it goes,\nin meters."}
    assert list(Outer.field_docs()) == ["depth", "inner", "other", "kind"]


def test_a_schema_describes_fields_by_the_names_that_users_write() -> None:
    properties: dict[str, Any] = Outer.model_json_schema()["properties"]
    described = {name: each.get("description") for name, each in properties.items()}
    assert described == {
        "depth": "How deep it goes,\nin meters.",
        "plain": None,
        "inner": None,  # the same text stands at the section itself
        "other": "How the other one works.",
        "class": "A word that is reserved in Python.",
    }
