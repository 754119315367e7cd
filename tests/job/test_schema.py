from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.config import config_schema
from orchestrator.job.requests.parameters import PARAMETERS
from orchestrator.job.schema import job_schema


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {}).items()


@pytest.mark.parametrize("schema", [job_schema(), config_schema()])
def test_every_field_is_described(schema: dict[str, Any]) -> None:
    # A reference without a description has that of what it refers to.
    described = {f"#/$defs/{name}" for name, part in schema["$defs"].items() if part.get("description")}
    silent = [
        name
        for name, field in properties(schema)
        if not field.get("description") and field.get("$ref") not in described
    ]
    assert silent == []


@pytest.mark.parametrize("schema", [job_schema(), config_schema()])
def test_a_schema_is_json_and_refuses_unknown_fields(schema: dict[str, Any]) -> None:
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False


def test_request_fields_are_completed_and_wrong_ones_marked() -> None:
    request = job_schema()["properties"]["request"]
    assert request["properties"].keys() > PARAMETERS.keys()
    assert request["additionalProperties"] is True
    assert request["properties"]["max_tokens"] == {
        "not": {},
        "description": "not a parameter: use max_output_tokens",
    }


def test_values_have_the_forms_that_people_write() -> None:
    deadline = job_schema()["properties"]["deadline"]
    assert [kind["type"] for kind in deadline["anyOf"]] == ["string", "number", "null"]
    assert re.fullmatch(deadline["anyOf"][0]["pattern"], "1h 30m")
    assert re.fullmatch(deadline["anyOf"][0]["pattern"], "2026-12-24 06:30 +01:00")
    assert not re.fullmatch(deadline["anyOf"][0]["pattern"], "soon")
    assert config_schema()["$defs"]["ErrorOverride"]["required"] == ["class"]
