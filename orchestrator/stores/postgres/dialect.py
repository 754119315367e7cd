"""Words the shared statements for PostgreSQL, and widens a statement for one row to one for many rows.

Most statements mean the same in both databases. The few that do not have their own text in ``statements/``, under the
same name; what remains is a handful of words that are replaced here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.sql.queries import queries

__all__ = ["Dialect", "ForMany", "Translated"]

Encoder: TypeAlias = Callable[[Any], Any]
# Type of each column, by table and column.
Columns: TypeAlias = Mapping[tuple[str, str], str]

_STATEMENTS = files("orchestrator.stores.postgres").joinpath("statements")
_NAMED = re.compile(r"(?<!:):(\w+)")
_NUMBERED = re.compile(r"\?(\d+)")
# The type of a parameter follows from its use, and this is none.
_IS_NULL = re.compile(r"(?<!:):(\w+) (IS (?:NOT )?NULL)")
# A response id that another attempt holds is the one thing that such an update may meet.
_OR_IGNORE = "UPDATE OR IGNORE attempt SET"
_RESPONSE_ID = re.compile(r"\bresponse_id = (:\w+|\?\d+)")
_UNLESS_HELD = """ AND NOT EXISTS (
  SELECT 1 FROM attempt AS holder
  WHERE holder.response_id = {0} AND holder.shares_response = 0 AND holder.id <> attempt.id
)"""
_FLAG = re.compile(r":?[\w.]+")
_JSON_EACH = re.compile(r"json_each\((:\w+)\)(\s+AS \w+)?")
_METADATA = re.compile(r"CASE\s+WHEN :paths IS NULL THEN.*?END AS metadata", re.DOTALL)
_METADATA_IN_POSTGRESQL = """CASE WHEN :paths::text IS NULL THEN '[]' ELSE (
    SELECT json_agg(coalesce(metadata::json ->> substr(path, 4, length(path) - 4), '(none)') ORDER BY place)::text
    FROM json_array_elements_text(:paths::json) WITH ORDINALITY AS wanted (path, place)
  ) END AS metadata"""
_WORDS = (
    (re.compile(r" INDEXED BY \w+"), ""),
    (re.compile(r"\bCROSS JOIN\b"), "JOIN"),
    (re.compile(r"\bIS NOT (?=\w+\.\w+)"), "IS DISTINCT FROM "),
    (re.compile(r"\bIS (?=:\w+)"), "IS NOT DISTINCT FROM "),
    (re.compile(r"\bLIKE (?=:\w+)"), "ILIKE "),
    (
        re.compile(r"date\((\w+), 'unixepoch'\)"),
        r"to_char(to_timestamp(\1) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    ),
    (_METADATA, _METADATA_IN_POSTGRESQL),
    # No index covers the state, so these keep to the range of the run's ids.
    (
        re.compile(
            r"WHERE request\.run_id = :run_id AND "
            r"(?=request\.state = 'pending' AND request\.not_before = 0|request\.settled_at IS NULL)"
        ),
        """WHERE request.id >= (SELECT first_request_id FROM run WHERE id = :run_id)
  AND request.id <= (SELECT last_request_id FROM run WHERE id = :run_id) AND request.run_id + 0 = :run_id AND """,
    ),
)
_INSERT = re.compile(r"\s*INSERT INTO (\w+) \(([^)]*)\)\s*VALUES \(([^)]*)\)(.*)", re.DOTALL)
_PAIR = re.compile(r"\b(\w+) = (?:coalesce\()?\$(\d+)")
_TABLE = re.compile(r"\s*(?:UPDATE|INSERT INTO) (\w+)")
# Types of the parameters that are not values of a column of their name; all others are integers.
_TYPES = {
    **dict.fromkeys(("at", "not_before", "settled_at", "ended_at", "completed_at", "started_at"), "double precision"),
    **dict.fromkeys(
        (
            "stage", "state", "from_state", "to_state", "response_id", "status", "model", "service_tier", "code",
            "message", "key", "name", "source", "flag", "output_text", "idempotency_key", "window", "metadata",
            "states", "pattern", "sort_by",
        ),
        "text",
    ),
    **dict.fromkeys(("fingerprint", "body", "data", "row_hash", "stage_hash", "request_hash"), "bytea"),
}  # fmt: skip


@fast_dataclass(kw_only=False)
class Translated:
    """A statement as PostgreSQL takes it: its parameters by number, and their names if they are given by name."""

    text: str
    names: tuple[str, ...] | None
    # By the place of the parameter: values that the database takes in another form.
    encoders: Mapping[int, Encoder]

    def values(self, parameters: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
        if self.names is None:
            given: list[Any] = list(parameters)
        else:
            given = [parameters[name] for name in self.names]  # type: ignore[call-overload]  # it is a mapping
        for place, encode in self.encoders.items():
            given[place] = encode(given[place])
        return given


@fast_dataclass(kw_only=False)
class ForMany:
    """A statement for many rows: one array for each parameter."""

    text: str
    names: tuple[str, ...]
    encoders: tuple[Callable[[Any], str], ...]
    by_name: bool

    def values(self, rows: Sequence[Mapping[str, Any] | Sequence[Any]]) -> list[str]:
        """The array of each parameter, as text: the driver's own way takes five times the CPU."""
        if self.by_name:
            columns = [[row[name] for row in rows] for name in self.names]  # type: ignore[call-overload]  # mappings
        else:
            columns = [list(column) for column in zip(*rows, strict=True)]
        return [
            f"{{{','.join(['NULL' if value is None else encode(value) for value in column])}}}"
            for encode, column in zip(self.encoders, columns, strict=True)
        ]


class Dialect:
    """Translates each statement once; ``columns`` are those of the schema."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._own, self._takes = _own_statements()
        self._prepared: dict[str, Translated] = {}
        self._widened: dict[str, ForMany | None] = {}

    def translated(self, statement: str) -> Translated:
        """A statement for one row."""
        found = self._prepared.get(statement)
        if found is None:
            found = self._prepared[statement] = self._prepare(statement)
        return found

    def for_many(self, statement: str) -> ForMany | None:
        """The same for many rows; None if it is not an UPDATE or an INSERT of values, or one row could come twice."""
        if statement not in self._widened:
            self._widened[statement] = self._widen(statement)
        return self._widened[statement]

    def _prepare(self, statement: str) -> Translated:
        text = self._text(statement)
        if _NUMBERED.search(text):
            return Translated(_NUMBERED.sub(r"$\1", text), None, {})
        text, names = _number(text)
        types = self._insert_types(text, names) if _INSERT.match(text) else {}
        encoders = {
            place: encode
            for place, name in enumerate(names)
            if (encode := _ENCODERS.get(types.get(name) or ("bytea" if name == "data" else "")))
        }
        return Translated(text, names, encoders)

    def _text(self, statement: str) -> str:
        if statement.startswith("PRAGMA"):
            return "SELECT 1"
        own = self._own.get(statement)
        if own is not None:
            return own
        for pattern, replacement in _WORDS:
            statement = pattern.sub(lambda found, to=replacement: found.expand(to), statement)  # type: ignore[misc]
        if _OR_IGNORE in statement:
            statement = statement.replace(_OR_IGNORE, "UPDATE attempt SET") + _UNLESS_HELD.format(
                *_RESPONSE_ID.findall(statement)
            )
        text = statement
        statement = _IS_NULL.sub(lambda found: f":{found[1]}::{_type_in(text, found[1])} {found[2]}", statement)
        return _of_two(_spelt_out(_JSON_EACH.sub(_json_values, statement)))

    def _insert_types(self, text: str, names: Sequence[str]) -> dict[str, str]:
        """The type of each parameter that is the value of a column."""
        found = _INSERT.match(text)
        if found is None:
            return {}
        table, columns, values, _ = found.groups()
        pairs = zip(_listed(columns), _listed(values), strict=True)
        return {
            names[int(value[1:]) - 1]: self._columns[table, column]
            for column, value in pairs
            if value.startswith("$")
        }

    def _update_types(self, text: str, names: Sequence[str]) -> dict[str, str]:
        """The type of each parameter of an UPDATE: that of the column that it is set to or compared with."""
        [table] = _TABLE.findall(text)[:1]
        compared = {
            names[int(place) - 1]: self._columns.get((table, column)) for column, place in _PAIR.findall(text)
        }
        return {name: compared.get(name) or _type_of(name) for name in names}

    def _widen(self, statement: str) -> ForMany | None:
        prepared = self.translated(statement)
        text, by_name = prepared.text, prepared.names is not None
        names = prepared.names if prepared.names is not None else self._takes.get(statement)
        if names is None or not _TABLE.match(text) or "DO UPDATE" in text:
            return None
        types = self._insert_types(text, names)
        if _INSERT.match(text) is None:
            types = self._update_types(text, names)
        arrays = ", ".join(f"${place}::{types[name]}[]" for place, name in enumerate(names, start=1))
        source = f"unnest({arrays}) AS c ({', '.join(f'p_{name}' for name in names)})"
        wide = re.sub(r"\$(\d+)", lambda found: f"c.p_{names[int(found[1]) - 1]}", text)
        inserted = _INSERT.match(wide)
        if inserted is not None:
            table, columns, values, rest = inserted.groups()
            wide = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {source}{rest}"  # noqa: S608  # our own text
        elif wide.lstrip().startswith("UPDATE") and " FROM " not in wide.partition("WHERE")[0]:
            before, _, after = wide.partition("WHERE")
            wide = f"{before}FROM {source}\nWHERE{after}"
        else:
            return None
        encoders = tuple(_ENCODERS_OF_ARRAYS[types[name]] for name in names)
        return ForMany(wide, tuple(names), encoders, by_name)


def _own_statements() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The own text of shared statements, and what the statements take whose parameters are in order."""
    own: dict[str, str] = {}
    takes: dict[str, tuple[str, ...]] = {}
    shared = files("orchestrator.stores.sql").joinpath("statements")
    for file in sorted(shared.iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".sql"):
            continue
        statements = queries(file.name)
        if _STATEMENTS.joinpath(file.name).is_file():
            own |= {statements[name]: text for name, text in queries(file.name, _STATEMENTS).items()}
        for name, listed in _takes(file.read_text(encoding="utf-8")).items():
            takes[statements[name]] = listed
    return own, takes


def _takes(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("-- name: "):
            name = line.removeprefix("-- name: ").strip()
        elif line.startswith("-- takes: "):
            listed = line.removeprefix("-- takes: ").replace(",", " ").split()
            found[name] = (*found.get(name, ()), *listed)
    return found


def _type_of(parameter: str) -> str:
    # Several ids come as JSON.
    return _TYPES.get(parameter, "text" if parameter.endswith(("_ids", "numbers")) else "bigint")


def _type_in(statement: str, parameter: str) -> str:
    """The type of a parameter that may be absent: that of the column that it is compared with otherwise."""
    compared = re.search(rf"\b(\w+) = :{parameter}\b", statement)
    return _TYPES.get(parameter) or _type_of(compared[1] if compared else parameter)


def _number(text: str) -> tuple[str, tuple[str, ...]]:
    """The parameters by number, and their names in this order."""
    names = tuple(dict.fromkeys(_NAMED.findall(text)))
    places = {name: place for place, name in enumerate(names, start=1)}
    return _NAMED.sub(lambda found: f"${places[found[1]]}", text), names


def _json_values(found: re.Match[str]) -> str:
    parameter, alias = found.groups()
    value = "value::bigint" if parameter.endswith(("_ids", "numbers")) else "value"
    return f"(SELECT {value} AS value FROM json_array_elements_text({parameter}::json)){alias or ' AS each'}"  # noqa: S608


def _of_two(text: str) -> str:
    """The greater and the smaller of two values: PostgreSQL's ``max`` and ``min`` are only aggregates."""
    for name, other in (("max", "greatest"), ("min", "least")):
        for found in reversed(list(re.finditer(rf"\b{name}\(", text))):
            if len(_arguments(text, found.end())[0]) > 1:
                text = text[: found.start()] + other + text[found.end() - 1 :]
    return text


def _spelt_out(text: str) -> str:
    """``iif`` as a ``CASE``, with a condition of its own where a number stands for yes and no."""
    for found in reversed(list(re.finditer(r"\biif\(", text))):
        (condition, yes, no), end = _arguments(text, found.end())
        test = f"{condition} <> 0" if _FLAG.fullmatch(condition) else condition
        text = f"{text[: found.start()]}CASE WHEN {test} THEN {yes} ELSE {no} END{text[end:]}"
    return text


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """The arguments of a call, and the place behind it."""
    depth, found = 0, [""]
    for place, character in enumerate(text[start:], start=start):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return [each.strip() for each in found], place + 1
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    raise ValueError(f"a call that is not closed: {text[start:]}")


def _listed(columns: str) -> list[str]:
    return [each.strip() for each in columns.split(",")]


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _json(value: Any) -> Any:
    return None if value is None else json.dumps(value)


_ENCODERS: Mapping[str, Encoder] = {"bytea": _bytes, "jsonb": _json}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_ENCODERS_OF_ARRAYS: Mapping[str, Callable[[Any], str]] = {
    "bigint": lambda value: str(int(value)),
    "double precision": lambda value: repr(float(value)),
    "text": _quoted,
    "bytea": lambda value: f'"\\\\x{_bytes(value).hex()}"',
    "jsonb": lambda value: _quoted(json.dumps(value)),
}
