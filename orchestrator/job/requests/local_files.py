"""Files of the user's own in requests: as a data URL, or uploaded once and named by its id.

A template only marks where a file belongs; nothing is read while it is filled in. What the marks name is read
afterwards, from one folder and nowhere else, since a row may come from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = [
    "FILTERS",
    "MOST_DATA_URL_BYTES",
    "MOST_UPLOAD_BYTES",
    "FileToUpload",
    "FileUnusable",
    "LocalFiles",
    "NamedFiles",
    "UnchangedFiles",
    "uploads_in",
]

# A request is kept in memory while it waits to be sent, and is sent again with each attempt.
MOST_DATA_URL_BYTES = 20 * 2**20
MOST_UPLOAD_BYTES = 200 * 2**20

_SIZES = {
    "data_url": (MOST_DATA_URL_BYTES, "larger ones can be uploaded: {{ column | upload }}"),
    "upload": (MOST_UPLOAD_BYTES, "larger ones are not uploaded"),
}
_KINDS = {".webp": "image/webp", ".md": "text/markdown", ".jsonl": "application/jsonl"}
_PURPOSE = re.compile(r"[a-z_-]*")
_REMEMBERED = 4096

# A row may come from anyone, and what it names is sent to the provider.
_OF_KEYS = frozenset({".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".asc", ".gpg", ".env"})
_SECRETS = re.compile(
    r"^(id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|secrets?(\.(ya?ml|json|toml))?)$", re.IGNORECASE
)
_SQLITE = b"SQLite format 3\0"

# No row can hold this by itself: it is another one in each process.
_TOKEN = secrets.token_hex(8)


class FileUnusable(Exception):
    """A file that a row names cannot be sent; the message says why, and for whom."""


class FileToUpload(str):
    """Stands in a request where the id of an uploaded file belongs; the same for the same content."""

    __slots__ = ("name", "path", "purpose", "sha256")

    path: Path
    name: str
    sha256: bytes
    purpose: str

    def read(self) -> bytes | None:
        """The content; None if it is no longer the same."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).digest() == self.sha256 else None


@fast_dataclass(kw_only=False)
class _Mark:
    """What a filter left in a text."""

    kind: str
    name: str
    purpose: str = ""

    def __str__(self) -> str:
        return f"\0{_TOKEN}\0{self.kind}\0{self.purpose}\0{self.name}\0"

    @classmethod
    def of(cls, text: str) -> _Mark | None:
        match text.split("\0"):
            case ["", token, kind, purpose, name, ""] if token == _TOKEN:
                return cls(kind, name, purpose)
        if _TOKEN in text:
            raise FileUnusable("data_url and upload must stand alone: nothing but {{ column | data_url }}")
        return None


def _data_url(name: Any) -> str:
    return str(_Mark("data_url", _named(name)))


def _upload(name: Any, purpose: Any = "") -> str:
    if not isinstance(purpose, str) or not _PURPOSE.fullmatch(purpose):
        raise FileUnusable('the purpose of an upload is a word such as "user_data" or "vision"')
    return str(_Mark("upload", _named(name), purpose))


def _named(name: Any) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise FileUnusable("the name of a file is needed, and this is none")
    return name


# For templates: {{ photo | data_url }}, {{ report | upload }}, {{ report | upload("vision") }}.
FILTERS: Mapping[str, Callable[..., str]] = {"data_url": _data_url, "upload": _upload}


class LocalFiles:
    """The files of one folder."""

    def __init__(self, folder: Path, *, never: Iterable[Path] = ()) -> None:
        """``never`` are files of the folder that no row may name."""
        self._folder = folder
        self._never = tuple(never)
        self._hashes: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def put_into(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A request's fields with what the marks in them name; raises ``FileUnusable``."""
        filled: dict[str, Any] = _replaced(fields, self._content)
        return filled

    def check(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The same, but that the files are only looked for, and not read."""
        filled: dict[str, Any] = _replaced(fields, self._checked)
        return filled

    def _content(self, mark: _Mark) -> str:
        path = self._find(mark.name)
        return self._as_data_url(path, mark.name) if mark.kind == "data_url" else self._as_upload(path, mark)

    def _checked(self, mark: _Mark) -> str:
        path = self._find(mark.name)
        if mark.kind == "data_url":
            _kind(path, mark.name)
        _refuse_size(path, mark)
        return _in_words(mark)

    def _find(self, name: str) -> Path:
        folder = self._folder.resolve()
        path = (self._folder / name).resolve()
        if not path.is_relative_to(folder):
            raise FileUnusable(f'the file "{name}" is outside the folder {self._folder}, and is not read')
        if any(
            part.startswith(".")
            for part in (*Path(name).parts, *path.relative_to(folder).parts)
            if part not in (".", "..")
        ):
            raise FileUnusable(f'the file "{name}" is hidden, or in a hidden folder, and is not sent')
        if path.suffix.lower() in _OF_KEYS or _SECRETS.search(path.name):
            raise FileUnusable(f'the file "{name}" looks like one that holds keys, and is not sent')
        if any(_same(path, each) for each in self._never) or _is_database(path):
            raise FileUnusable(f'the file "{name}" is the job, its input, its config or a database, and is not sent')
        if not path.is_file():
            raise FileUnusable(f'there is no file "{name}" in {self._folder}')
        return path

    def _as_data_url(self, path: Path, name: str) -> str:
        content = _read(path, _Mark("data_url", name))
        return f"data:{_kind(path, name)};base64,{base64.b64encode(content).decode()}"

    def _as_upload(self, path: Path, mark: _Mark) -> FileToUpload:
        sha256 = self._hash(path, mark)
        standing = FileToUpload(f"upload-{sha256.hex()}")
        standing.path, standing.name, standing.sha256 = path, path.name, sha256
        image = (kind_of(path) or "").startswith("image/")
        standing.purpose = mark.purpose or ("vision" if image else "user_data")
        return standing

    def _hash(self, path: Path, mark: _Mark) -> bytes:
        """Of the content; a file that was not touched since is not read again."""
        status = path.stat()
        known = (str(path), status.st_mtime_ns, status.st_size)
        if known not in self._hashes:
            self._hashes[known] = hashlib.sha256(_read(path, mark)).digest()
            if len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)
        return self._hashes[known]


class UnchangedFiles(LocalFiles):
    """The files of a folder as they were at a time; one that has changed since, or is gone, is only named."""

    def __init__(self, folder: Path, *, since: float) -> None:
        super().__init__(folder)
        self._since = since

    def _content(self, mark: _Mark) -> str:
        try:
            # An upload is looked up by its content, which shows a change by itself.
            changed = mark.kind == "data_url" and self._find(mark.name).stat().st_mtime > self._since
            return _in_words(mark) if changed else super()._content(mark)
        except (FileUnusable, OSError):
            return _in_words(mark)


class NamedFiles:
    """Names each file in words, to show a request without reading anything."""

    def put_into(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A request's fields with a few words where the marks are."""
        filled: dict[str, Any] = _replaced(fields, _in_words)
        return filled

    check = put_into


def uploads_in(value: Any) -> Iterator[FileToUpload]:
    """The uploads that a filled request waits for."""
    match value:
        case FileToUpload():
            yield value
        case dict():
            for inner in value.values():
                yield from uploads_in(inner)
        case list():
            for inner in value:
                yield from uploads_in(inner)


def kind_of(path: Path) -> str | None:
    """The media type that follows from a file's name."""
    return _KINDS.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]


def _replaced(value: Any, content: Callable[[_Mark], str]) -> Any:
    match value:
        case str():
            mark = _Mark.of(value)
            return value if mark is None else content(mark)
        case dict():
            return {name: _replaced(inner, content) for name, inner in value.items()}
        case list():
            return [_replaced(inner, content) for inner in value]
    return value


def _in_words(mark: _Mark) -> str:
    return f"({mark.kind.replace('_', ' ')} of {mark.name})"


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _is_database(path: Path) -> bool:
    """Whether a file, or the one that it belongs to, is a SQLite database; such as that of the runs."""
    of = path.with_name(path.name.removesuffix("-wal").removesuffix("-shm").removesuffix(".lock"))
    try:
        with of.open("rb") as stream:
            return stream.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _kind(path: Path, name: str) -> str:
    kind = kind_of(path)
    if kind is None:
        raise FileUnusable(f'the name "{name}" does not show what kind of file it is')
    return kind


def _refuse_size(path: Path, mark: _Mark) -> None:
    size = path.stat().st_size
    most, much = _SIZES[mark.kind]
    if size > most:
        raise FileUnusable(f'the file "{mark.name}" has {size / 1e6:.1f} MB, more than {most / 1e6:.0f} MB; {much}')
    if not size:
        raise FileUnusable(f'the file "{mark.name}" is empty')


def _read(path: Path, mark: _Mark) -> bytes:
    try:
        _refuse_size(path, mark)
        return path.read_bytes()
    except OSError as error:
        raise FileUnusable(f'the file "{mark.name}" cannot be read: {error.strerror}') from None
