"""Downloads inputs that are named by URL, so that they become ordinary uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.forms.form_parts import Parts
from config import NetworkConfig
from errors import InputError, MediaError
from jobs.model.files import UploadedFile
from net.fetch import OnBytes, fetch
from net.ssrf_guard import SsrfGuard
from storage.file_store import FileStore
from telemetry import metrics


class UrlInputs:
    """Fetches under the rules of `guard` into `files`."""

    def __init__(self, network: NetworkConfig, files: FileStore) -> None:
        self._guard = SsrfGuard(network)
        self._files = files

    def check(self, name: str, url: str) -> None:
        """Check the URL in field `name` without resolving its host.

        Raises:
            UrlRefusedError: The URL is not allowed.
        """
        with _named(name):
            self._guard.check(url)

    async def fetch_into(self, parts: Parts, max_file_bytes: int, on_bytes: OnBytes) -> None:
        """Download every URL of `parts`. On failure, files downloaded before stay in `parts`.

        Args:
            parts: The form.
            max_file_bytes: Maximum size of a file.
            on_bytes: Called with the number of new bytes; may raise to stop the download.

        Raises:
            UrlRefusedError: A URL or redirect is not allowed.
            UrlFetchError: The download failed or is too slow.
            MediaLimitError: The file is too large.
            MediaError: The file is empty.
        """
        for name, url in parts.urls.items():
            try:
                with _named(name):
                    parts.files[name] = await self._fetch(url, max_file_bytes, on_bytes)
            except InputError as error:
                metrics.FETCHES.add(1, error.code)
                raise
            metrics.FETCHES.add(1, "ok")
            metrics.FETCHED.add(parts.files[name].num_bytes)

    async def _fetch(self, url: str, max_bytes: int, on_bytes: OnBytes) -> UploadedFile:
        target = self._guard.check(url)
        writer = await asyncio.to_thread(self._files.new_upload, target.file_name)
        try:
            if not await fetch(url, writer, max_bytes, self._guard, on_bytes):
                raise MediaError(f"{target} is empty.")
            return await asyncio.to_thread(writer.finish)
        except BaseException:
            writer.discard()
            raise


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Prefix error messages with the name of the field."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{field}: {error}") from error
