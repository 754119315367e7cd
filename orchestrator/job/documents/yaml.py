"""YAML 1.2 read into plain data, with the line of every field.

YAML 1.2 leaves ``no``, ``on`` and ``12:30`` the text that their author meant. Numbers with a fraction become
``Decimal``, so that an amount of money is the one that was written; dates stay text.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem

__all__ = ["NotYaml", "ParsedYaml", "parse_scalar", "parse_yaml"]

_PREFIX = "tag:yaml.org,2002:"
_STRUCTURES = frozenset({f"{_PREFIX}map", f"{_PREFIX}seq"})

_NO_CHARACTER = re.compile(r"\\U(?!000|0010)[0-9a-fA-F]{8}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# But for tab, line feed, carriage return and next line, control characters; and what is no character at all.
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

_ONE_COLUMN = "the fields of a mapping, and the items of a list, begin in one column"
_HINTS = {
    "mapping values are not allowed here": "text that holds a colon and a space must be in quotes",
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "found character '%' that cannot start any token": "a template needs quotes, or a block that starts with |",
    "but found another document": "one file holds one document; remove the line ---",
}


# A job, config or price file is written by hand; aliases may repeat parts of it, which counts each time.
_DEEPEST = 100
_MOST_NODES = 50_000
_MOST_CHARACTERS = 4 * 2**20
_MOST_DIGITS = 400
_LARGEST_EXPONENT = 400


class NotYaml(Exception):
    """The text cannot be read as YAML at all."""

    def __init__(self, message: str, *, line: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


@fast_dataclass(kw_only=False)
class ParsedYaml:
    """One document: its data, the line of each field (from 1), and what is wrong with it beyond its syntax."""

    data: Any
    lines: dict[FieldPath, int]
    problems: list[ValidationProblem]


class _Builder:
    """Walks the parser's nodes once, keeping lines and collecting mistakes on the way."""

    def __init__(self) -> None:
        self.lines: dict[FieldPath, int] = {}
        self.problems: list[ValidationProblem] = []
        # Ids of the nodes that are being built: an alias to one of them would never end.
        self._open: set[int] = set()
        self._nodes = self._characters = 0

    def build(self, node: Node, path: FieldPath) -> Any:
        self._count(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if node.tag not in _STRUCTURES:
            self._report(node, path, f"the tag {node.tag} is not allowed here")
            return None
        if id(node) in self._open:
            self._report(node, path, "refers to itself")
            return None
        self._open.add(id(node))
        built: Any = None
        if isinstance(node, MappingNode):
            built = self._mapping(node, path)
        elif isinstance(node, SequenceNode):
            built = self._sequence(node, path)
        self._open.remove(id(node))
        return built

    def _count(self, node: Node) -> None:
        self._nodes += 1
        self._characters += len(node.value) if isinstance(node, ScalarNode) else 0
        if self._nodes > _MOST_NODES or self._characters > _MOST_CHARACTERS:
            raise NotYaml("the file holds more than can be read, each alias counted in full", line=_line(node))

    def _scalar(self, node: ScalarNode, path: FieldPath) -> Any:
        try:
            return _scalar_value(str(node.tag), node.value)
        except _Unusable as error:
            self._report(node, path, str(error), error.hint)
        except ValueError:
            self._report(node, path, f"the tag {node.tag} is not allowed here")
        return None

    def _sequence(self, node: SequenceNode, path: FieldPath) -> list[Any]:
        built = []
        for index, child in enumerate(node.value):
            self.lines.setdefault((*path, index), _line(child))
            built.append(self.build(child, (*path, index)))
        return built

    def _mapping(self, node: MappingNode, path: FieldPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            inner = (*path, key)
            if key in built:
                first = self.lines[inner]
                self._report(key_node, inner, f"is given twice; the first is in line {first}")
                continue
            self.lines.setdefault(inner, _line(key_node))
            built[key] = self.build(value_node, inner)
        return built

    def _key(self, node: Node, path: FieldPath) -> str | None:
        if isinstance(node, ScalarNode):
            if node.tag == f"{_PREFIX}merge":
                self._report(node, path, "the merge key << is not part of YAML 1.2", "repeat the fields")
                return None
            before = len(self.problems)
            key = self._scalar(node, path)
            if isinstance(key, str):
                return key
            if len(self.problems) > before:
                return None
            self._report(node, path, "a field name must be text", "put it in quotes")
            return None
        # {{ text }} without quotes is a mapping inside a mapping to YAML.
        self._report(node, path, "a field name must be text", 'put templates in quotes: "{{ … }}"')
        return None

    def _report(self, node: Node, path: FieldPath, message: str, hint: str | None = None) -> None:
        self.problems.append(ValidationProblem(path, message, hint, _line(node)))


def parse_yaml(text: str) -> ParsedYaml:
    """Read one document; raises ``NotYaml`` if the syntax is wrong, and collects lesser problems."""
    if re.match(r"%YAML\s+1\.[01]\b", text):
        raise NotYaml("the file asks for YAML 1.1; YAML 1.2 is read here", line=1, hint="remove the %YAML line")
    reader = _reader()
    try:
        root = reader.compose(StringIO(text))
    except (MaxDepthExceededError, RecursionError) as error:
        raise NotYaml("the file is nested too deeply", line=_line_reached(reader, error)) from None
    except MarkedYAMLError as error:
        raise _explained(error, text) from None
    except YAMLError:
        raise NotYaml(
            "the text holds a character that YAML does not allow", line=_line_of(_NOT_ALLOWED, text)
        ) from None
    except (ValueError, OverflowError):
        # Of chr(): "\UFFFFFFFF" names a character beyond the last one.
        message = "the text holds an escape of a character that does not exist"
        raise NotYaml(message, line=_line_of(_NO_CHARACTER, text)) from None
    except Exception as error:  # noqa: BLE001 – the parser meets damaged text in ways of its own
        raise NotYaml("the text is not YAML", line=_line_reached(reader, error)) from None
    builder = _Builder()
    data = None if root is None else builder.build(root, ())
    return ParsedYaml(data, builder.lines, builder.problems)


def parse_scalar(text: str) -> Any:
    """The value of a scalar as a file would mean it: ``5``, ``true``, ``null``, ``0.5``, else text.

    Raises ``ValueError`` if it cannot be used, such as a number without a bound.
    """
    tag = _reader().resolver.resolve(ScalarNode, text, (True, False))
    return _scalar_value(str(tag), text)


def _reader() -> YAML:
    reader = YAML(typ="safe", pure=True)
    reader.max_depth = _DEEPEST
    return reader


def _line_reached(reader: YAML, error: Exception) -> int:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return int(mark.line if mark is not None else reader.reader.line) + 1


def _line_of(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _explained(error: MarkedYAMLError, text: str) -> NotYaml:
    """The parser's error in the words of those who write such files; no text of the file is in it."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    opened = error.context_mark.line + 1 if error.context_mark else line + 1
    problem = _without_content(error.problem or "the text is not YAML")
    hint = _HINTS.get(error.problem or "")
    if problem == "mapping values are not allowed here" and _is_indented_further(text, line):
        problem, hint = "this line is indented further than the line before it", _ONE_COLUMN
    elif problem == "expected <block end>" and _indentation(text.splitlines()[line]) == column:
        problem, hint = "the indentation fits none of the lines before", _ONE_COLUMN
    elif problem == "expected <block end>":
        problem, hint = "there is more text behind the end of the value", "put the whole text in one pair of quotes"
    elif problem == "found unexpected end of stream":
        problem, line = "a quote is opened here and never closed", opened - 1
    elif problem.startswith("expected ',' or"):
        hint = f"a bracket was opened in line {opened}: is it closed?"
    return NotYaml(problem, line=line + 1, hint=hint)


def _is_indented_further(text: str, line: int) -> bool:
    lines = text.splitlines()
    before = next((each for each in reversed(lines[:line]) if each.strip()), "")
    return line < len(lines) and _indentation(lines[line]) > _indentation(before)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _without_content(problem: str) -> str:
    """The parser's words without the token it met, which may be the text of a prompt."""
    return problem.split(", but got")[0].split(", but found")[0]


class _Unusable(ValueError):
    """A scalar that YAML allows and that nothing here can hold."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def _scalar_value(tag: str, text: str) -> Any:
    if "\0" in text:
        raise _Unusable("holds a NUL character")
    if _SURROGATE.search(text):
        try:
            # Two escapes of halves, as JSON writes them, are one character.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise _Unusable("holds half of a character, an escape from \\uD800 to \\uDFFF") from None
    match tag.removeprefix(_PREFIX):
        case "str" | "timestamp" | "value" | "merge":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _whole_number(text)
        case "float":
            return _number(text.lower().replace("_", ""))
    raise ValueError(tag)


def _number(digits: str) -> float | Decimal:
    if digits.endswith(("inf", "nan")):
        return float(digits.replace(".", ""))
    try:
        number = Decimal(digits)
    except InvalidOperation:  # of an exponent of many digits
        number = None
    if number is None or len(digits) > _MOST_DIGITS or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise _Unusable("is too large, too small or too long a number", "put it in quotes if it is text")
    return number


def _whole_number(text: str) -> int | str:
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    if len(digits) > _MOST_DIGITS:
        raise _Unusable("is too long a number", "put it in quotes if it is text")
    try:
        value = int(digits[2:] if base != 10 else digits, base)
    except ValueError:
        # The parser takes 0ff for a number; it is none, so it is text.
        return text
    return -value if text.startswith("-") else value
