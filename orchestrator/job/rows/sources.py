"""The files that ``input.path`` names: which they are, in what format, and how they are opened."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast

import orjson

from orchestrator.core.errors import SpecError
from orchestrator.job.documents.validation_problems import did_you_mean

__all__ = [
    "BOM",
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
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_DAMAGE = (OSError, EOFError, zlib.error)
_ENDS = 64 * 1024
_BUFFER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One input file: ``path`` opens it, ``relative`` is its name as the job file sees it."""

    path: Path
    relative: str

    @property
    def name(self) -> str:
        """The file for people: in error messages, and beside every row in the database."""
        return "stdin" if self.relative == STDIN else str(self.path)


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
        raise SpecError(
            f'the name "{path}" does not show the format',
            hint=f"set input.format; known are {', '.join(_SUFFIXES)}, and all but .parquet followed by .gz",
        )
    return "openai-batch" if found == "jsonl" and _starts_as_batch(find_sources(path, base_dir)[0]) else found


def find_sources(path: str, base_dir: Path) -> list[Source]:
    """The input files in the order of their names; raises ``SpecError`` if there is none."""
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
        return [Source(base_dir / path, path)]
    # Unlike Path.glob, this one passes hidden files over.
    matches = glob.iglob(path, root_dir=base_dir, recursive=True)  # noqa: PTH207
    names = sorted(name for name in matches if (base_dir / name).is_file())
    if not names:
        raise SpecError(f'no file matches "{base_dir / path}"')
    return [Source(base_dir / name, name) for name in names]


def identity_of(path: str, base_dir: Path) -> str:
    """Names and sizes of the input files, and a hash of these and of the first and last 64 kB of each."""
    if path == STDIN:
        return "stdin"
    digest, total = hashlib.sha256(), 0
    sources = find_sources(path, base_dir)
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
def opened(source: Source, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    """The file's bytes, uncompressed; raises ``SpecError`` if it cannot be opened. Standard input stays open."""
    if source.relative == STDIN:
        yield stdin or sys.stdin.buffer
        return
    with _readable(source):
        raw = source.path.open("rb", buffering=_BUFFER)
    with raw:
        if source.relative.lower().endswith(".gz"):
            # Reading lines from GzipFile itself costs a Python call a line.
            yield cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER))
        else:
            yield raw


def numbered_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """The lines from 1, without a byte order mark; raises ``SpecError`` if the file is damaged or UTF-16."""
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            yield number, _without_bom(line, name) if number == 1 else line
    except _DAMAGE as error:
        raise _damaged(error, name, after=number) from None


def whole_content(stream: BinaryIO, name: str) -> bytes:
    """All of a file, without a byte order mark; errors as of ``numbered_lines``."""
    try:
        return _without_bom(stream.read(), name)
    except _DAMAGE as error:
        raise _damaged(error, name, after=0) from None


def _damaged(error: Exception, name: str, *, after: int) -> SpecError:
    if isinstance(error, gzip.BadGzipFile) and not after:
        return SpecError("the file is not compressed with gzip, although its name ends in .gz", where=name)
    if isinstance(error, OSError) and error.strerror:
        return SpecError(f"the file cannot be read: {error.strerror}", where=f"{name}:{after + 1}")
    # Decompression runs ahead of the lines, so there is no line to name.
    return SpecError("the compressed file is damaged or cut short", where=name)


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
