"""Downloads inputs that are named by URL, so that they become ordinary uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from lipwright.api.forms.admissions import upload_timeout
from lipwright.api.forms.body_stream import BodyGrant
from lipwright.api.forms.form_parts import Parts
from lipwright.config import PipelineConfig
from lipwright.errors import InputError, MediaError
from lipwright.jobs.admission import AdmitRequest
from lipwright.jobs.model.base import UploadedFile
from lipwright.net.fetch import OnBytes, fetch
from lipwright.net.ssrf_guard import SsrfGuard
from lipwright.storage.file_store import FileStore
from lipwright.telemetry import metrics


class UrlInputs:
    """Fetches allowed URLs into `files`."""

    def __init__(self, config: PipelineConfig, files: FileStore) -> None:
        self._guard = SsrfGuard(config.network)
        self._max_file_bytes = config.limits.max_upload_bytes
        self._files = files

    def check(self, name: str, url: str) -> None:
        """Check the URL in field `name` without resolving its host.

        Raises:
            UrlRefusedError: The URL is not allowed.
        """
        with _name_field(name):
            self._guard.check(url)

    async def fetch_into(self, parts: Parts, grant: BodyGrant, owner: str | None) -> None:
        """Download every URL of `parts`, within what `grant` is extended to. On failure, `parts` has the files before.

        Raises:
            UrlRefusedError: A URL or redirect is not allowed.
            UrlFetchError: A download failed or is too slow.
            MediaLimitError: A file is too large.
            MediaError: A file is empty.
            StageTimeoutError: The downloads take too long.
            CapacityError: The queue is full.
            StorageFullError: The disk is full.
        """
        if not parts.urls:
            return
        max_bytes = len(parts.urls) * self._max_file_bytes
        wide = await grant.grow(AdmitRequest(owner=owner, num_bytes=None, max_bytes=max_bytes))
        max_file_bytes = min(self._max_file_bytes, wide.max_bytes // len(parts.urls))
        async with upload_timeout(wide.timeout_s):
            for name, url in parts.urls.items():
                try:
                    with _name_field(name):
                        parts.files[name] = await self._fetch(url, max_file_bytes, grant.count)
                except InputError as error:
                    metrics.FETCHES.add(1, error.code)
                    raise
                metrics.FETCHES.add(1, "ok")
                metrics.FETCHED.add(parts.files[name].num_bytes)

    async def _fetch(self, url: str, max_bytes: int, on_bytes: OnBytes) -> UploadedFile:
        target = self._guard.check(url)
        with await asyncio.to_thread(self._files.new_upload, target.file_name) as writer:
            if not await fetch(url, writer, max_bytes, self._guard, on_bytes):
                raise MediaError(f"{target} is empty.")
            return await asyncio.to_thread(writer.finish)


@contextmanager
def _name_field(field: str) -> Iterator[None]:
    """Prefix error messages with the name of the field."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{field}: {error}") from error
