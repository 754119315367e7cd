"""Pydantic classes as schemas of the API's strict mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from orchestrator.job.requests.strict_schema import CannotBeStrict, not_strict, strict_schema
from orchestrator.policy.errors.answer_schema import AnswerSchema

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openai.lib._pydantic import to_strict_json_schema


class Tone(Enum):
    CALM = "calm"
    URGENT = "urgent"


class Person(BaseModel):
    """Somebody."""

    name: str
    born: int | None = None


class Speech(BaseModel):
    """A speech."""

    year: Annotated[int, Field(ge=1700)]
    held_on: date | None
    speaker: Person = Field(description="Who spoke.")
    audience: list[Person]
    tone: Tone = Field(description="How it sounds.")
    share: float
    war: bool


class Tree(BaseModel):
    word: str
    branches: list[Tree] = []
    twin: Tree | None = Field(None, description="A tree like this one.")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Empty(BaseModel):
    pass


class Holder(BaseModel):
    empty: Empty


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object schema in a schema, however deep."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


@pytest.mark.parametrize("model", [Speech, Person, Tree, Owner, Holder])
def test_every_object_requires_each_of_its_fields_and_allows_no_other(model: type[BaseModel]) -> None:
    schema = strict_schema(model)
    found = list(objects(schema))
    assert found
    for each in found:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])
    assert list(not_strict(schema)) == []
    text = str(schema)
    assert "'default'" not in text
    assert "'oneOf'" not in text
    AnswerSchema(schema)


@pytest.mark.parametrize("model", [Person, Speech, Cat, Dog])
def test_it_is_what_the_apis_own_client_sends(model: type[BaseModel]) -> None:
    assert strict_schema(model) == to_strict_json_schema(model)


def test_a_reference_stands_alone() -> None:
    speaker = strict_schema(Speech)["properties"]["speaker"]
    assert speaker["description"] == "Who spoke."
    assert "$ref" not in speaker
    assert speaker["required"] == ["name", "born"]


def test_a_class_that_holds_itself() -> None:
    schema = AnswerSchema(strict_schema(Tree))
    assert (
        schema.flaw('{"word": "a", "branches": [{"word": "b", "branches": [], "twin": null}], "twin": null}') is None
    )
    assert schema.flaw('{"word": "a", "branches": [{"word": "b"}], "twin": null}') is not None


def test_alternatives_differ_by_their_constants() -> None:
    schema = AnswerSchema(strict_schema(Owner))
    assert schema.flaw('{"pet": {"kind": "dog", "tricks": []}}') is None
    assert schema.flaw('{"pet": {"kind": "cat", "tricks": []}}') is not None


def test_what_fits_the_schema_fits_the_class() -> None:
    text = (
        '{"year": 1790, "held_on": null, "speaker": {"name": "W", "born": null}, "audience": [], "tone": "calm",'
        ' "share": 0.5, "war": false}'
    )
    assert AnswerSchema(strict_schema(Speech)).flaw(text) is None
    assert Speech.model_validate_json(text).tone is Tone.CALM


class Counts(BaseModel):
    counts: dict[str, int]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Names(RootModel[list[str]]):
    pass


class Callback(BaseModel):
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Counts, "Counts.counts takes fields of any name, which a strict schema cannot say"),
        (Open, "Open takes fields of any name, which a strict schema cannot say"),
        (Names, "Names must be a class with fields"),
        (Callback, "Callback has no JSON Schema"),
    ],
)
def test_a_class_that_cannot_be_strict_is_refused(model: type[BaseModel], reason: str) -> None:
    with pytest.raises(CannotBeStrict) as caught:
        strict_schema(model)
    assert caught.value.reason.startswith(reason)
