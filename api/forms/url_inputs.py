"""Inputs that a form names by URL: fetched here into upload files, so that all behind sees uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.forms.form_parts import Parts
from errors import InputError, MediaError
from net.fetch import OnBytes, fetch
from net.ssrf_guard import SsrfGuard
from storage.file_store import FileStore
from storage.records import UploadedFile
from telemetry import metrics


class UrlInputs:
    """Fetches under the rules of `guard` into `files`."""

    def __init__(self, guard: SsrfGuard, files: FileStore) -> None:
        self._guard = guard
        self._files = files

    def check(self, name: str, url: str) -> None:
        """Check the URL in the field `name` by its looks, without looking its host up.

        Raises:
            UrlRefusedError: It will not be fetched.
        """
        with _named(name):
            self._guard.check(url)

    async def fetch_into(self, parts: Parts, max_file_bytes: int, on_bytes: OnBytes) -> None:
        """Turn every URL of `parts` into a file; what was fetched before a failure stays in `parts`.

        Args:
            parts: The form.
            max_file_bytes: Bytes that each file may have.
            on_bytes: Told how many bytes have come since it was told last; it may end the fetch.

        Raises:
            UrlRefusedError: A URL, or one that it redirects to, may not be reached.
            UrlFetchError: There is no file there, or it comes too slowly.
            MediaLimitError: It is too large.
            MediaError: It is empty.
        """
        for name, url in parts.urls.items():
            try:
                with _named(name):
                    parts.files[name] = await self._fetch(url, max_file_bytes, on_bytes)
            except InputError as error:
                metrics.url_fetched(0, error.code)
                raise
            metrics.url_fetched(parts.files[name].num_bytes, "ok")

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
    """Put the field's name before the message of whatever is wrong with it."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{field}: {error}") from error
