"""Text files: each file is one row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias

from orchestrator.job.rows.formats import Columns, ReadingRules, not_in_encoding
from orchestrator.job.rows.sources import Source, opened, whole_content

__all__ = ["TextFiles"]

Unit: TypeAlias = tuple[Source, BinaryIO | None]


class TextFiles:
    """The columns are ``name`` (the file's name without ``.gz``), ``path`` (as the job sees it) and ``text``."""

    key_column: str | None = "path"

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[None, Unit]]:
        yield None, (source, stdin)

    def parse(self, unit: Unit, columns: Columns = None) -> dict[str, Any]:  # noqa: ARG002 – the text is the row
        source, stdin = unit
        with opened(source, stdin, self.rules.caps) as stream:
            content = whole_content(stream, source.name, self.rules.caps)
        try:
            # Byte order marks stand wherever files were joined.
            text = content.decode(self.rules.encoding or "utf-8").replace("\n\ufeff", "\n")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise not_in_encoding(self.rules, line) from None
        return {"name": PurePath(source.relative).name.removesuffix(".gz"), "path": source.relative, "text": text}
