"""Receives the inputs of a task, from URLs or the data root, as uploads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from fastapi import Request

from lipwright.api.access import caller_of
from lipwright.api.forms.admissions import Admissions, upload_timeout
from lipwright.api.forms.body_stream import BodyGrant
from lipwright.api.forms.form_parts import Parts
from lipwright.api.forms.url_inputs import UrlInputs
from lipwright.api.heygem.data_root import DataRoot
from lipwright.config import PipelineConfig
from lipwright.errors import InputError, MediaError, MediaLimitError, UrlRefusedError
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.ports import JobService
from lipwright.storage.file_store import FileStore

_PIECE_BYTES = 1 << 20


class HeygemInputs:
    """Downloads and copies inputs within the upload limits."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig, root: DataRoot | None) -> None:
        self._service = service
        self._files = files
        self._root = root
        self._max_file_bytes = config.limits.max_upload_bytes
        self._urls = UrlInputs(config, files)
        self._admissions = Admissions(service)

    @asynccontextmanager
    async def receive(self, request: Request, names: dict[str, str]) -> AsyncIterator[tuple[Admission, Parts]]:
        """Yield an admission and the received files; both are released if the block fails.

        Args:
            request: The request.
            names: URLs or paths by purpose (`audio`, `video`).

        Raises:
            CapacityError: The queue is full.
            InputError: A file does not exist, is not allowed, or is empty.
            MediaLimitError: A file is too large.
        """
        parts = Parts(urls={use: name for use, name in names.items() if "://" in name})
        for use, url in parts.urls.items():
            self._urls.check(use, url)
        with ExitStack() as stack:
            opened = {
                use: stack.enter_context(await asyncio.to_thread(self._open, use, name))
                for use, name in names.items()
                if use not in parts.urls
            }
            num_bytes = sum(os.fstat(file.fileno()).st_size for file in opened.values())
            owner, max_bytes = caller_of(request).owner, len(names) * self._max_file_bytes
            query = AdmitRequest(owner=owner, num_bytes=max(1, num_bytes), max_bytes=max_bytes, is_job=True)
            async with self._admissions.acquire(query) as admission:
                grant = BodyGrant(self._service, admission)
                try:
                    async with upload_timeout(admission.timeout_s):
                        for use, file in opened.items():
                            parts.files[use] = await self._copy(use, file, names[use], grant)
                    await self._urls.fetch_into(parts, grant, owner)
                    yield admission, parts
                except BaseException:
                    await asyncio.shield(asyncio.to_thread(self._files.drop_uploads, *parts.files.values()))
                    raise

    def _open(self, use: str, name: str) -> BinaryIO:
        if self._root is None:
            raise UrlRefusedError(
                f"{use}_url: expected an http(s) URL, because no data folder is configured (heygem.root)."
            )
        try:
            file = self._root.open(name)
        except InputError as error:
            raise type(error)(f"{use}_url: {error}") from None
        if (num_bytes := os.fstat(file.fileno()).st_size) > self._max_file_bytes:
            file.close()
            raise MediaLimitError(f"{use}_url: expected at most {self._max_file_bytes} bytes, found {num_bytes}.")
        return file

    async def _copy(self, use: str, file: BinaryIO, name: str, grant: BodyGrant) -> UploadedFile:
        with self._files.new_upload(PurePosixPath(name).name) as writer:
            num_bytes = 0
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                num_bytes += len(piece)
                if num_bytes > self._max_file_bytes:
                    raise MediaLimitError(f"{use}_url: expected at most {self._max_file_bytes} bytes, found more.")
                await grant.count(len(piece))
                await asyncio.to_thread(writer.write, piece)
            if not num_bytes:
                raise MediaError(f"{use}_url: {name[:200]!r} is empty.")
            return await asyncio.to_thread(writer.finish)
