"""Receives request bodies as validated forms, and cleans up their files if the request fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel

from lipwright.api.access import caller_of
from lipwright.api.base_url import base_url
from lipwright.api.body_window import MinRate
from lipwright.api.forms.admissions import Admissions, CallerSlots, upload_timeout
from lipwright.api.forms.body_stream import BodyGrant, BodyStream, ByteLimit
from lipwright.api.forms.form_parts import Parts
from lipwright.api.forms.form_schema import accepted_fields, validated
from lipwright.api.forms.json_request import request_digest
from lipwright.api.forms.uploads import FRAMING_BYTES, drain, receive_form
from lipwright.api.forms.url_inputs import UrlInputs
from lipwright.config import PipelineConfig
from lipwright.errors import MediaLimitError, OptionError
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import RequestContext, check_same_request, priority_of
from lipwright.storage.file_store import FileStore
from lipwright.storage.uploads import HashOnlyTarget

_IDEMPOTENCY_KEY = "Idempotency-Key"
"""Request header: repeating a request with the same key returns the same job."""
_MAX_KEY_CHARS = 200
_MAX_COMPARISONS = 16  # per API key; nothing else bounds them, because a repeated request takes no place in the queue

_NOT_FETCHED = UploadedFile(key="", sha256="", num_bytes=0, label="")

_Form = TypeVar("_Form", bound=BaseModel)


class FormReceiver:
    """Receives forms within the limits of admission control."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._files = files
        self._limits = config.limits
        self._max_file_bytes = config.limits.max_upload_bytes
        self._urls = UrlInputs(config, files)
        self._admissions = Admissions(service)
        self._comparisons = CallerSlots(_MAX_COMPARISONS)

    async def submit(
        self, request: Request, kind: type[_Form], spec_of: Callable[[_Form], JobSpec]
    ) -> tuple[JobRecord, bool]:
        """Submit the job of `request`; return it, and whether an earlier request with the same key has made it.

        Args:
            request: The request, which may have an idempotency key.
            kind: Type of the form.
            spec_of: Returns the spec of the job of a form; may raise LipwrightError.

        Raises:
            LipwrightError: As for `receive`, or the service refuses the job.
            InProgressError: Another request with the same idempotency key is in progress.
            KeyReuseError: A different request had the same key.
            BusyError: Too many requests of the same caller are being compared.
        """
        caller, key = caller_of(request), request.headers.get(_IDEMPOTENCY_KEY)
        query = self._admit_request(request, kind, key).model_copy(update={"is_job": True})
        async with self._admissions.acquire(query) as admission:
            if admission.job is not None:
                return await self._compare(request, kind, admission, admission.job), True
            async with self._receive_body(request, kind, admission) as (form, digest):
                spec = spec_of(form)
                context = RequestContext(
                    admission_id=admission.id,
                    owner=caller.owner,
                    priority=priority_of(caller, spec),
                    idempotency_key=key,
                    request_digest=digest,
                    base_url=base_url(request),
                )
                return await self._service.submit(spec, context), False

    @asynccontextmanager
    async def receive(self, request: Request, kind: type[_Form]) -> AsyncIterator[tuple[_Form, str]]:
        """Yield the form of `request` and the ID of its admission; both are released if the block fails.

        Raises:
            InputError: The body is invalid.
            MediaLimitError: The body is too large.
            StageTimeoutError: The body arrives too slowly.
            CapacityError: The queue is full.
            StorageFullError: The disk has too little space.
        """
        async with (
            self._admissions.acquire(self._admit_request(request, kind)) as admission,
            self._receive_body(request, kind, admission) as (form, _),
        ):
            yield form, admission.id

    @asynccontextmanager
    async def _receive_body(
        self, request: Request, kind: type[_Form], admission: Admission
    ) -> AsyncIterator[tuple[_Form, str]]:
        """Yield the form of `request` and its digest; its uploads are deleted if the block fails."""
        parts: Parts | None = None
        grant = BodyGrant(self._service, admission)
        max_bytes = min(self._max_file_bytes, admission.max_bytes)
        try:
            async with upload_timeout(admission.timeout_s):
                body = BodyStream(request, self._min_rate(), grant)
                parts = await receive_form(body, accepted_fields(kind), self._files, max_bytes, self._urls.check)
            await self._urls.fetch_into(parts, grant, caller_of(request).owner)
            form = validated(kind, accepted_fields(kind).content(parts.files, parts.texts))
            yield form, request_digest(form, parts.urls)
        except BaseException:
            if parts is not None:
                await asyncio.shield(asyncio.to_thread(self._files.drop_uploads, *parts.files.values()))
            raise

    def _min_rate(self) -> MinRate:
        return MinRate(self._limits.min_upload_bytes_per_s, self._limits.max_upload_pause_s)

    async def _compare(
        self, request: Request, kind: type[BaseModel], admission: Admission, job: JobRecord
    ) -> JobRecord:
        """Return the job of an idempotency key if `request` repeats the request that made it.

        The body is hashed instead of stored, and its URLs are not downloaded.
        """
        if job.request_digest is None:
            await drain(request)
            return job
        max_bytes = min(self._max_file_bytes, admission.max_bytes)
        with self._comparisons.take(caller_of(request).owner):
            async with upload_timeout(admission.timeout_s):
                body = BodyStream(request, self._min_rate(), ByteLimit(admission.max_bytes))
                parts = await receive_form(body, accepted_fields(kind), HashOnlyTarget(), max_bytes, self._urls.check)
        files = {**parts.files, **dict.fromkeys(parts.urls, _NOT_FETCHED)}
        form = validated(kind, accepted_fields(kind).content(files, parts.texts))
        check_same_request(job, request_digest(form, parts.urls))
        return job

    def _admit_request(self, request: Request, kind: type[BaseModel], key: str | None = None) -> AdmitRequest:
        declared = request.headers.get("content-length", "")
        if key is not None and not 1 <= len(key) <= _MAX_KEY_CHARS:
            raise OptionError(f"{_IDEMPOTENCY_KEY}: expected 1 to {_MAX_KEY_CHARS} characters, found {len(key)}.")
        max_bytes = len(accepted_fields(kind).files) * self._max_file_bytes + FRAMING_BYTES
        if request.headers.get("content-type", "").startswith("application/json"):
            max_bytes = max_bytes * 4 // 3  # base64
        num_bytes = int(declared) if declared.isdigit() and len(declared) < 16 else None
        if num_bytes is not None and num_bytes > max_bytes:
            raise MediaLimitError(f"The body has {declared} bytes; files may have at most {self._max_file_bytes}.")
        return AdmitRequest(
            owner=caller_of(request).owner,
            num_bytes=num_bytes,
            max_bytes=max_bytes,
            idempotency_key=key,
        )
