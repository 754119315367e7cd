"""The files that ``input.path`` names: which they are, in what format, and how they are opened."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import orjson

from orchestrator.core.errors import SpecError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.validation_problems import did_you_mean
from orchestrator.job.rows.caps import InputCaps

__all__ = [
    "BOM",
    "LINES_OF_ARRAY",
    "STDIN",
    "Format",
    "GivenFormat",
    "Source",
    "find_sources",
    "identity_of",
    "names_several",
    "numbered_lines",
    "opened",
    "resolve_format",
    "whole_content",
]

Format: TypeAlias = Literal["jsonl", "csv", "parquet", "text", "openai-batch"]
GivenFormat: TypeAlias = Literal["auto", "jsonl", "csv", "parquet", "text", "openai-batch"]

STDIN = "-"

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
# A hint for a file that is one JSON array.
LINES_OF_ARRAY = "make lines of a JSON array: jq -c '.[]' FILE.json > FILE.jsonl"
BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_ENDS = 64 * 1024
_BUFFER = 256 * 1024
# Every file may expand to so much, whatever the ratio.
_FREE_EXPANSION = 256 * 2**20
_CAPS = InputCaps()


@fast_dataclass(kw_only=False)
class Source:
    """One input file: ``path`` opens it, ``relative`` is its name as the job file sees it."""

    path: Path
    relative: str

    @property
    def name(self) -> str:
        """The file for people: in error messages, and beside every row in the database."""
        return "stdin" if self.relative == STDIN else _readable_name(str(self.path))


def names_several(path: str, base_dir: Path) -> bool:
    """Whether the path is a pattern. A file whose name merely looks like one is itself."""
    return path != STDIN and glob.has_magic(path) and not (base_dir / path).exists()


def resolve_format(path: str, given: GivenFormat, base_dir: Path) -> Format:
    """The format of an input: as given, else by the suffix of its path; raises ``SpecError``.

    Lines of JSON are an OpenAI batch file where the first one has ``custom_id`` and ``body``. Standard input is
    taken for plain lines of JSON, because it cannot be looked into and read again.
    """
    if path == STDIN:
        if given == "parquet":
            raise SpecError("parquet cannot be read from standard input")
        return "jsonl" if given == "auto" else given
    if given != "auto":
        return given
    plain = path.lower().removesuffix(".gz")
    found = _SUFFIXES.get(Path(plain).suffix)
    if found is None or (found == "parquet" and path.lower() != plain):
        if plain.endswith(".json"):
            message = f'"{path}" is named as one JSON document, not as lines of JSON'
            raise SpecError(message, hint=f"{LINES_OF_ARRAY}; for lines of JSON, set input.format: jsonl")
        raise SpecError(
            f'the name "{path}" does not show the format',
            hint=f"set input.format; known are {', '.join(_SUFFIXES)}, and all but .parquet followed by .gz",
        )
    return "openai-batch" if found == "jsonl" and _starts_as_batch(find_sources(path, base_dir)[0]) else found


def find_sources(path: str, base_dir: Path, earlier: Sequence[str] = ()) -> list[Source]:
    """The input files in the order of their names; raises ``SpecError`` if there is none.

    Those of ``earlier`` paths follow; of these, any may be absent.
    """
    found = _find(path, base_dir)
    for each in earlier:
        with suppress(SpecError):
            found += _find(each, base_dir)
    return found


def _find(path: str, base_dir: Path) -> list[Source]:
    if path == STDIN:
        return [Source(Path(STDIN), STDIN)]
    if not names_several(path, base_dir):
        if (base_dir / path).is_dir():
            raise SpecError(f'"{path}" is a folder', hint=f'name its files, such as "{path.rstrip("/")}/*.txt"')
        if not (base_dir / path).exists():
            raise SpecError(
                f'there is no file "{base_dir / path}"',
                hint=_neighbour(base_dir / path) or "paths are relative to the job file",
            )
        if not (base_dir / path).is_file():
            raise SpecError(
                f'"{path}" is no file that can be read twice',
                hint='write path: "-", and pipe it in: zcat FILE | orchestrator run JOB',
            )
        return [Source(base_dir / path, path)]
    # Unlike Path.glob, this one passes hidden files over.
    matches = glob.iglob(path, root_dir=base_dir, recursive=True)  # noqa: PTH207
    names = sorted(name for name in matches if (base_dir / name).is_file())
    if not names:
        raise SpecError(f'no file matches "{base_dir / path}"')
    return [Source(base_dir / name, _readable_name(name)) for name in names]


def identity_of(path: str, base_dir: Path, earlier: Sequence[str] = ()) -> str:
    """Names and sizes of the input files, and a hash of these and of the first and last 64 kB of each."""
    if path == STDIN:
        return "stdin"
    digest, total = hashlib.sha256(), 0
    sources = find_sources(path, base_dir, earlier)
    for source in sources:
        with _readable(source), source.path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            head = stream.read(_ENDS)
            stream.seek(max(len(head), size - _ENDS))
            digest.update(orjson.dumps([source.relative, size]) + head + stream.read())
        total += size
    files = "1 file" if len(sources) == 1 else f"{len(sources)} files"
    return f"{files}, {total} bytes, sha256 {digest.hexdigest()}"


@contextmanager
def opened(source: Source, stdin: BinaryIO | None, caps: InputCaps = _CAPS) -> Iterator[BinaryIO]:
    """The file's bytes, uncompressed; raises ``SpecError`` if it cannot be opened. Standard input stays open."""
    if source.relative == STDIN:
        yield stdin or sys.stdin.buffer
        return
    with _readable(source):
        raw = source.path.open("rb", buffering=_BUFFER)
    with raw:
        if source.relative.lower().endswith(".gz"):
            # Reading lines from GzipFile itself costs a Python call a line.
            yield cast(BinaryIO, io.BufferedReader(_BoundedGzip(raw, caps.expansion), _BUFFER))
        else:
            yield raw


class _BoundedGzip(gzip.GzipFile):
    """Raises ``_ExpandsTooMuch`` where little data becomes very much."""

    def __init__(self, raw: BinaryIO, most_times: int) -> None:
        super().__init__(fileobj=raw)
        self._raw, self._most_times, self._expanded = raw, most_times, 0

    def readinto(self, buffer: Any) -> int:
        read = super().readinto(buffer)
        self._expanded += read
        if self._expanded > _FREE_EXPANSION and self._expanded > self._most_times * self._raw.seek(0, io.SEEK_CUR):
            raise _ExpandsTooMuch
        return read


class _ExpandsTooMuch(Exception):
    pass


def numbered_lines(stream: BinaryIO, name: str, caps: InputCaps = _CAPS) -> Iterator[tuple[int, bytes]]:
    """The lines from 1, without a byte order mark; raises ``SpecError`` for a damaged, UTF-16 or oversized file."""
    number, most = 0, caps.line_bytes
    try:
        for number, line in enumerate(iter(partial(stream.readline, most + 1), b""), 1):
            if len(line) > most:
                raise _too_long("the line", caps, f"{name}:{number}")
            yield number, _without_bom(line, name) if number == 1 else line
    except (OSError, EOFError, zlib.error, _ExpandsTooMuch) as error:
        raise _damaged(error, name, after=number) from None


def whole_content(stream: BinaryIO, name: str, caps: InputCaps = _CAPS) -> bytes:
    """All of a file, without a byte order mark; errors as of ``numbered_lines``."""
    try:
        content = stream.read(caps.line_bytes + 1)
        if len(content) > caps.line_bytes:
            raise _too_long("the file", caps, name)
        return _without_bom(content, name)
    except (OSError, EOFError, zlib.error, _ExpandsTooMuch) as error:
        raise _damaged(error, name, after=0) from None


def _too_long(what: str, caps: InputCaps, where: str) -> SpecError:
    return SpecError(
        f"{what} has more than {caps.line_bytes:,} bytes",
        where=where,
        hint="raise input.caps.line_bytes if it is meant",
    )


def _damaged(error: Exception, name: str, *, after: int) -> SpecError:
    if isinstance(error, _ExpandsTooMuch):
        hint = "raise input.caps.expansion if it is meant"
        return SpecError(
            "the compressed file expands to very many times its size", where=f"{name}:{after + 1}", hint=hint
        )
    if isinstance(error, gzip.BadGzipFile) and not after:
        return SpecError("the file is not compressed with gzip, although its name ends in .gz", where=name)
    if isinstance(error, OSError) and error.strerror:
        return SpecError(f"the file cannot be read: {error.strerror}", where=f"{name}:{after + 1}")
    # Decompression runs ahead of the lines, so there is no line to name.
    return SpecError("the compressed file is damaged or cut short", where=name, hint=f"{after:,} lines were read")


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"the file cannot be read: {error.strerror}", where=source.name) from None


def _without_bom(data: bytes, name: str) -> bytes:
    if data.startswith(_UTF16_BOMS):
        raise SpecError("the file is UTF-16 text", where=f"{name}:1", hint="save it as UTF-8")
    return data.removeprefix(BOM)


def _readable_name(name: str) -> str:
    """The name of a file as text that can be stored; bytes that are no UTF-8 become ``\\xe9``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _starts_as_batch(source: Source) -> bool:
    with opened(source, None) as stream:
        for _, line in numbered_lines(stream, source.name):
            if line.isspace():
                continue
            try:
                first = orjson.loads(line)
            except orjson.JSONDecodeError:
                return False
            return isinstance(first, dict) and "custom_id" in first and "body" in first
    return False


def _neighbour(path: Path) -> str | None:
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return "paths are relative to the job file"
