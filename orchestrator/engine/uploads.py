"""Uploads files once for each content, before the first request that names them is sent."""

from __future__ import annotations

from collections import defaultdict

import anyio
from anyio import to_thread

from orchestrator.core.problems import Problem, Refused
from orchestrator.engine.run_context import RunContext
from orchestrator.job.requests.local_files import FileToUpload
from orchestrator.provider.client import ResponsesClient
from orchestrator.stores import uploaded_files
from orchestrator.stores.retained import ObjectKind, ProviderObject

__all__ = ["FileChanged", "Uploads"]

# An upload is large and slow; requests without files overtake those that wait for one.
_AT_ONCE = 4


class FileChanged(Exception):
    """The file is not what it was when its row was rendered."""


class Uploads:
    """The files of one run at one provider.

    A file is on disk with its id before a request names it. One that an earlier run uploaded is used again where the
    provider still has it.
    """

    def __init__(self, run: RunContext, client: ResponsesClient, *, provider: str) -> None:
        self._client = client
        self._store = run.store
        self._reader = run.reader
        self._clock = run.clock
        self._run_id = run.record.id
        self._provider = provider
        self._known: dict[bytes, str] = {}
        # Many rows at once may need the same content; it is uploaded once.
        self._locks: defaultdict[bytes, anyio.Lock] = defaultdict(anyio.Lock)
        self._places = anyio.CapacityLimiter(_AT_ONCE)

    async def file_id(self, upload: FileToUpload) -> str | Problem:
        """The provider's id for a file; raises ``FileChanged``."""
        async with self._locks[upload.sha256]:
            known = self._known.get(upload.sha256) or await self._find(upload.sha256)
            if known is None:
                async with self._places:
                    made = await self._upload(upload)
                if not isinstance(made, str):
                    return made
                known = made
            self._known[upload.sha256] = known
            return known

    async def _find(self, sha256: bytes) -> str | None:
        """The id of a file that an earlier run uploaded, if the provider still has it."""
        found = await self._reader.upload(self._provider, sha256)
        if found is None:
            return None
        missing = await self._client.check_stored(found.file_id, of="files")
        if isinstance(missing, Refused) and missing.status in (404, 410):
            gone = ProviderObject(ObjectKind.FILE, found.file_id)
            await self._store.note_deleted(self._run_id, gone, was_there=False, at=self._clock.now())
            return None
        await self._store.use_upload(found.file_id, self._run_id)
        return found.file_id

    async def _upload(self, upload: FileToUpload) -> str | Problem:
        content = await to_thread.run_sync(upload.read)
        if content is None:
            raise FileChanged(f'the file "{upload.name}" was changed or removed during the run')
        made = await self._client.upload(upload.name, content, purpose=upload.purpose)
        if isinstance(made, str):
            kept = uploaded_files.Upload(
                file_id=made,
                provider=self._provider,
                sha256=upload.sha256,
                name=upload.name,
                bytes=len(content),
                uploaded_at=self._clock.now(),
            )
            await self._store.add_upload(kept, self._run_id)
        return made
