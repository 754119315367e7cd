"""The base class of every section of a job file, a config file and the sandbox's settings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

__all__ = ["Section"]


class Section(BaseModel):
    """A part of a file that users write: unknown fields are refused, and docstrings document the fields."""

    # Pydantic's own ``use_attribute_docstrings`` parses the source of each class when it is imported, which takes a
    # tenth of the start-up of a run; only a JSON schema needs the texts.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def field_docs(cls) -> dict[str, str]:
        """The docstring below each field, by the field's name."""
        bases = [base.field_docs() for base in cls.__bases__ if issubclass(base, Section)]
        docs = {name: text for base in bases for name, text in base.items()}
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        for field, below in pairwise(getattr(definition, "body", ())):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text)
        return docs

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler, /) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in cls.field_docs().items():
            field = properties[cls.model_fields[name].alias or name]
            if handler.resolve_ref_schema(field).get("description") != text:
                field["description"] = text
        return schema
