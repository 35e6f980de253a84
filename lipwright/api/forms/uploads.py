"""Streaming parser of form bodies: files go from the socket to the disk in chunks, size-limited and hashed once.

Memory is bounded by one batch of chunks. On errors the files are deleted. Instead of a file, a form may contain its
URL, in the file's own field or in a field `{name}_url`; a JSON body may contain the file as base64 or a data URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from lipwright.api.forms.body_stream import BodyStream
from lipwright.api.forms.form_parts import FormFields, Parts, check_num_files
from lipwright.api.forms.json_body import Base64File, JsonBody
from lipwright.errors import InputError, MediaError, MediaLimitError, OptionError
from lipwright.jobs.model.base import UploadedFile
from lipwright.storage.uploads import UploadTarget, UploadWriter, clean_label
from lipwright.telemetry import metrics

_BATCH_BYTES = 1 << 20  # one thread hop per MiB
_DRAIN_BYTES = 16 << 20
_DRAIN_S = 3.0

FRAMING_BYTES = 65536
"""Allowance for boundaries, part headers and text fields."""
CheckUrl = Callable[[str, str], object]
"""Called with a field name and the URL of its file; raises if the URL is not allowed."""


@dataclass
class _Part:
    """The part being received."""

    headers: dict[str, str] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    name: str = ""
    file_name: str | None = None
    writer: UploadWriter | Base64File | None = None
    text: bytearray = field(default_factory=bytearray)
    num_bytes: int = 0


async def receive_form(
    body: BodyStream,
    accepted: FormFields,
    files: UploadTarget,
    max_file_bytes: int,
    check_url: CheckUrl,
) -> Parts:
    """Receive a body. Its files are stored in `files` and belong to the caller.

    Empty text fields, and file fields without a file, count as absent. URLs are checked with `check_url` as soon as
    they are received.

    Raises:
        OptionError: A field is unknown or sent twice.
        MediaLimitError: A file has more than `max_file_bytes`.
        MediaError: A file is empty.
        InputError: The body is neither multipart nor JSON, or is malformed.
        StageTimeoutError: The body arrives too slowly.
        CapacityError: The queue is full.
        ClientDisconnect: The client disconnected.
    """
    media_type, options = parse_options_header(body.content_type)
    if media_type == b"application/json":
        return await _read_json(
            body, accepted, JsonBody(accepted.files, files, max_file_bytes, accepted.max_small_bytes), check_url
        )
    if media_type != b"multipart/form-data" or b"boundary" not in options:
        found = media_type.decode("latin-1") or "no content type"
        raise InputError(f"Expected multipart/form-data or application/json, found {found}.")
    form = _FormReader(accepted, files, max_file_bytes, check_url)
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
            if form.num_pending_bytes >= _BATCH_BYTES:
                await asyncio.to_thread(form.flush)
        return await asyncio.to_thread(form.finish)
    except FormParserError as error:
        form.discard()
        raise InputError(f"The multipart body is malformed: {error}") from error
    except BaseException:
        form.discard()
        raise
    finally:
        metrics.UPLOADED.add(form.num_file_bytes)


async def drain(request: Request) -> None:
    """Read some more of a rejected body: a client that still sends it would get a connection reset, not the error."""
    if "expect" in request.headers:
        return  # the client waits for 100 Continue
    left = _DRAIN_BYTES
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: already read to the end
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


async def _read_json(stream: BodyStream, accepted: FormFields, body: JsonBody, check_url: CheckUrl) -> Parts:
    """Receive a form as one JSON object; numbers and booleans count as text."""
    try:
        pending = bytearray()
        async for chunk in stream:
            pending += chunk
            if len(pending) >= _BATCH_BYTES:
                await asyncio.to_thread(body.feed, bytes(pending))
                pending.clear()
        await asyncio.to_thread(body.feed, bytes(pending))
        fields, files = await asyncio.to_thread(body.finish)
        return _json_parts(fields, files, accepted, check_url)
    except BaseException:
        body.discard()
        raise
    finally:
        metrics.UPLOADED.add(body.num_file_bytes)


def _json_parts(
    fields: dict[str, Any], files: dict[str, UploadedFile], accepted: FormFields, check_url: CheckUrl
) -> Parts:
    parts = Parts(files=files)
    for name, value in fields.items():
        accepted.check_name(name)
        if value is None:
            continue
        if isinstance(value, bool) or (isinstance(value, dict | list) and name in accepted.objects):
            value = json.dumps(value, ensure_ascii=False)
        max_bytes = accepted.max_bytes(name)
        if not isinstance(value, str | int | float) or len(str(value)) > max_bytes:
            raise OptionError(f"{name}: expected a number, true, false or at most {max_bytes} bytes of text.")
        parts.add_text(name, str(value), accepted)
    for name, url in parts.urls.items():
        if name in files:
            raise OptionError(f"{name}: sent more than once. Send one file or one URL.")
        check_url(name, url)
    return parts


class _FormReader:
    """Callbacks of the multipart parser. `flush` and `finish` write to disk and must run in a thread."""

    def __init__(self, accepted: FormFields, files: UploadTarget, max_file_bytes: int, check_url: CheckUrl) -> None:
        self._accepted = accepted
        self._files = files
        self._max_file_bytes = max_file_bytes
        self._check_url = check_url
        self._part = _Part()
        self._writers: dict[str, UploadWriter | Base64File] = {}
        self._parts = Parts()
        self._seen: set[str] = set()
        self._pending: list[tuple[UploadWriter | Base64File, memoryview]] = []
        self._is_complete = False
        self.num_pending_bytes = 0
        self.num_file_bytes = 0

    def callbacks(self) -> dict[str, Any]:
        """Return the callbacks for `MultipartParser`."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda piece, start, end: self._part.header_name.extend(piece[start:end]),
            "on_header_value": lambda piece, start, end: self._part.header_value.extend(piece[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def flush(self) -> None:
        """Write pending chunks. Blocking."""
        pending, self._pending, self.num_pending_bytes = self._pending, [], 0
        for writer, piece in pending:
            writer.write(piece)

    def finish(self) -> Parts:
        """Write the rest and return all parts. Blocking."""
        if not self._is_complete:
            raise InputError("The multipart body is truncated.")
        self.flush()
        self._parts.files = {name: writer.finish() for name, writer in self._writers.items()}
        return self._parts

    def discard(self) -> None:
        """Delete the files of this form."""
        if self._part.writer is not None:
            self._part.writer.discard()
        for writer in self._writers.values():
            writer.discard()

    def _begin_part(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        part = self._part
        part.headers[part.header_name.decode("latin-1").lower()] = part.header_value.decode("utf-8", "replace")
        part.header_name, part.header_value = bytearray(), bytearray()

    def _open_part(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get("content-disposition", "").encode())
        part.name = options.get(b"name", b"").decode("utf-8", "replace")
        self._accepted.check_name(part.name)
        if b"filename" in options:
            part.file_name = clean_label(options[b"filename"].decode("utf-8", "replace"))
            if part.name not in self._accepted.files:
                raise OptionError(f"{part.name}: expected text, found a file.")
            check_num_files(len(self._writers) + 1)
            part.writer = self._files.new_upload(part.file_name)

    def _take(self, piece: bytes, start: int, end: int) -> None:
        part = self._part
        if not part.num_bytes:  # an empty part does not count
            if part.name in self._seen:
                raise OptionError(f"{part.name}: sent more than once.")
            self._seen.add(part.name)
        part.num_bytes += end - start
        if part.writer is None:
            part.text.extend(piece[start:end])
            if part.num_bytes > (max_bytes := self._accepted.max_bytes(part.name)) and not self._is_data_url(part):
                raise OptionError(f"{part.name}: expected at most {max_bytes} bytes of text.")
            return
        if part.num_bytes > self._max_file_bytes and isinstance(part.writer, UploadWriter):
            raise MediaLimitError(f"{part.name}: {part.file_name} has more than {self._max_file_bytes} bytes.")
        self._pending.append((part.writer, memoryview(piece)[start:end]))
        self.num_pending_bytes += end - start
        self.num_file_bytes += end - start

    def _is_data_url(self, part: _Part) -> bool:
        """Return whether a text part is a data URL, which is then written as a file."""
        if part.name not in self._accepted.files or part.text[:5].lower() != b"data:":
            return False
        part.writer = Base64File(part.name, self._files.new_upload(part.name), self._max_file_bytes)
        self._pending.append((part.writer, memoryview(bytes(part.text))))
        return True

    def _end_part(self) -> None:
        part = self._part
        if part.writer is not None or self._is_data_url(part):
            assert part.writer is not None
            if part.num_bytes == 0:
                part.writer.discard()
                if part.file_name:
                    raise MediaError(f"{part.name}: {part.file_name} is empty.")
            else:
                self._writers[part.name] = part.writer
                self._check_one(part.name)
            return
        name = self._parts.add_text(part.name, part.text.decode("utf-8", "replace"), self._accepted)
        if url := self._parts.urls.get(name):
            self._check_url(name, url)
            self._check_one(name)

    def _check_one(self, name: str) -> None:
        if name in self._writers and name in self._parts.urls:
            raise OptionError(f"{name}: sent more than once. Send one file or one URL.")

    def _end(self) -> None:
        self._is_complete = True
