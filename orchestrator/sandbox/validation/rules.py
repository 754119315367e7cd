"""Rules for the value of one field, and the provider's errors for values that break them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request

__all__ = [
    "ARRAY",
    "FLAG",
    "OBJECT",
    "Rule",
    "check_fields",
    "check_value",
    "missing",
    "number_rule",
    "require",
    "text_rule",
    "type_of",
    "unsupported_choice",
    "wrong_type",
]

Json: TypeAlias = Any

_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "decimal", list: "array of objects"}
_KINDS |= {dict: "object", type(None): "null"}


@fast_dataclass
class Rule:
    """The allowed values of one field; ``low`` and ``high`` bound a number, ``longest`` a string."""

    kinds: tuple[type, ...]
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    longest: int | None = None
    nullable: bool = True


def text_rule(*choices: str, longest: int | None = None) -> Rule:
    """A string; one of the choices, if any are given."""
    return Rule(kinds=(str,), choices=choices, longest=longest)


def number_rule(low: float | None = None, high: float | None = None, *, whole: bool = False) -> Rule:
    """A number between two bounds."""
    return Rule(kinds=(int,) if whole else (int, float), low=low, high=high)


FLAG = Rule(kinds=(bool,))
OBJECT = Rule(kinds=(dict,))
ARRAY = Rule(kinds=(list,))


def check_fields(fields: Mapping[str, Json], rules: Mapping[str, Rule], prefix: str) -> None:
    """Raises ``ErrorReply`` (400) if a field is unknown or breaks its rule; ``prefix`` is the path of the fields."""
    for name, value in fields.items():
        rule = rules.get(name)
        if rule is None:
            param = prefix + name
            raise bad_request(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
        check_value(value, rule, prefix + name)


def check_value(value: Json, rule: Rule, param: str) -> None:
    """Raises ``ErrorReply`` (400) if a value breaks its rule."""
    if value is None and rule.nullable:
        return
    # A JSON true is not a number, although Python's bool is an int.
    if not isinstance(value, rule.kinds) or (isinstance(value, bool) and bool not in rule.kinds):
        raise wrong_type(param, rule.kinds, value)
    if isinstance(value, str):
        _check_string(value, rule, param)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(value, rule, param)


def _check_string(value: str, rule: Rule, param: str) -> None:
    if rule.choices and value not in rule.choices:
        raise unsupported_choice(value, rule.choices, param)
    if rule.longest is not None and len(value) > rule.longest:
        raise bad_request(
            f"Invalid '{param}': string too long. Expected a string with maximum length {rule.longest}, "
            f"but got a string with length {len(value)} instead.",
            code="string_above_max_length",
            param=param,
        )


def _check_bounds(value: float, rule: Rule, param: str) -> None:
    kind = "integer" if rule.kinds == (int,) else "decimal"
    if rule.low is not None and value < rule.low:
        expected, code = f"{kind} below minimum value. Expected a value >= {rule.low}", f"{kind}_below_min_value"
    elif rule.high is not None and value > rule.high:
        expected, code = f"{kind} above maximum value. Expected a value <= {rule.high}", f"{kind}_above_max_value"
    else:
        return
    raise bad_request(f"Invalid '{param}': {expected}, but got {value} instead.", code=code, param=param)


def require(fields: Mapping[str, Json], names: Iterable[str], prefix: str) -> None:
    """Raises ``ErrorReply`` (400) if one of the fields is missing or null."""
    for name in names:
        if fields.get(name) is None:
            raise missing(f"{prefix}.{name}")


def type_of(fields: Mapping[str, Json], prefix: str) -> str:
    """The value of the required field ``type``."""
    require(fields, ("type",), prefix)
    check_value(fields["type"], text_rule(), f"{prefix}.type")
    return str(fields["type"])


def missing(param: str) -> ErrorReply:
    """400 for a required field that is missing."""
    return bad_request(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def wrong_type(param: str, kinds: tuple[type, ...], value: Json) -> ErrorReply:
    """400 for a value of a wrong JSON type."""
    wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
    return bad_request(
        f"Invalid type for '{param}': expected {wanted}, but got {_KINDS[type(value)]} instead.",
        code="invalid_type",
        param=param,
    )


def unsupported_choice(value: str, choices: Iterable[str], param: str) -> ErrorReply:
    """400 for a value that is not among those allowed."""
    allowed = ", ".join(f"'{choice}'" for choice in choices)
    return bad_request(
        f"Invalid value: '{value}'. Supported values are: {allowed}.", code="invalid_value", param=param
    )
