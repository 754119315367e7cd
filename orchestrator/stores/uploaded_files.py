"""Files that were uploaded to the provider, each once for its content."""

from __future__ import annotations

from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["Upload", "UploadReader", "UploadStore"]


@fast_dataclass
class Upload:
    """A file at the provider, by its content."""

    file_id: str
    provider: str
    sha256: bytes
    name: str
    bytes: int
    uploaded_at: float


class UploadStore(Protocol):
    """The verbs of a store for uploads; each returns when what it wrote is durable."""

    async def add_upload(self, upload: Upload, run_id: int) -> None:
        """Record a file that was uploaded, and that a run uses it."""
        ...

    async def use_upload(self, file_id: str, run_id: int) -> None:
        """Record that a run uses a file."""
        ...


class UploadReader(Protocol):
    """What the uploader reads."""

    async def upload(self, provider: str, sha256: bytes) -> Upload | None:
        """The file with that content at a provider, unless we deleted it."""
        ...
