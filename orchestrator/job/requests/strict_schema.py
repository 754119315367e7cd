"""The schema of a Pydantic class in the form that the API's strict mode demands.

In strict mode every object requires each of its fields (what may be absent is null instead) and allows no other, and
a reference stands alone. That is also what the API's own client makes of a class for ``responses.parse``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

__all__ = ["CannotBeStrict", "not_strict", "strict_schema"]


class CannotBeStrict(ValueError):
    """The class has a field that no strict schema can describe."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The strict JSON Schema of what the class accepts; raises ``CannotBeStrict``."""
    try:
        root = model.model_json_schema()
    except PydanticUserError as error:
        raise CannotBeStrict(f"{model.__name__} has no JSON Schema: {error.message}") from None
    strict = _Strict(root).schema(root, model.__name__)
    if strict.get("type") != "object":
        raise CannotBeStrict(f"{model.__name__} must be a class with fields", "put the list or union into a field")
    return strict


class _Strict:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = root.get("$defs", {})
        # References that are being unfolded, so that a class which holds itself ends.
        self._unfolding: list[str] = []

    def schema(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        if "$ref" in given:
            return self._reference(given, where)
        strict: dict[str, Any] = {}
        for word, value in given.items():
            match word, value:
                case "default" | "discriminator", _:
                    # Every field is given, so none has a default; alternatives differ by their constants.
                    continue
                case "properties" | "$defs", dict():
                    strict[word] = {name: self.schema(part, f"{where}.{name}") for name, part in value.items()}
                case "items", dict():
                    strict[word] = self.schema(value, f"{where}[]")
                case "anyOf" | "oneOf", list():
                    strict["anyOf"] = [self.schema(part, where) for part in value]
                case "allOf", [dict() as only]:
                    strict |= self.schema(only, where)
                case _:
                    strict[word] = value
        if strict.get("type") == "object":
            self._close(strict, where)
        return strict

    def _reference(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A reference alone; where words stand beside it, what it leads to with the words put into it."""
        reference = given["$ref"]
        beside = {word: value for word, value in given.items() if word not in ("$ref", "default")}
        if not beside or reference in self._unfolding:
            return {"$ref": reference}
        definition = self._definitions[reference.removeprefix("#/$defs/")]
        self._unfolding.append(reference)
        strict = self.schema({**definition, **beside}, where)
        self._unfolding.pop()
        return strict

    def _close(self, strict: dict[str, Any], where: str) -> None:
        if strict.get("additionalProperties") or "patternProperties" in strict:
            raise CannotBeStrict(
                f"{where} takes fields of any name, which a strict schema cannot say",
                "use a list of a class with a name and a value, or request.text.format with strict: false",
            )
        strict["properties"] = strict.get("properties", {})
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False


def not_strict(schema: Any, path: str = "") -> Iterator[str]:
    """Where a schema is not as strict mode demands, and what is missing there."""
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "object" or "properties" in schema:
        names = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            yield f"{path or 'its top'} lacks additionalProperties: false"
        if absent := [name for name in names if name not in schema.get("required", ())]:
            yield f"{path or 'its top'} does not require {', '.join(absent)}"
    for word in ("properties", "$defs"):
        for name, part in schema.get(word, {}).items():
            yield from not_strict(part, f"{path}.{name}".removeprefix("."))
    for part in schema.get("anyOf", ()):
        yield from not_strict(part, path)
    yield from not_strict(schema.get("items"), f"{path}[]")
