"""From a request's body to a checked form, with the files cleaned up when the request comes to nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from config import PipelineConfig
from deployments.api_models import is_file
from deployments.form_parts import FormShape, Parts
from deployments.job_service import JobService
from deployments.problem import describe
from deployments.uploads import drain, receive_form
from deployments.url_inputs import UrlInputs
from errors import LipwrightError, OptionError
from net.guard import Guard
from storage.file_store import FileStore

_Form = TypeVar("_Form", bound=BaseModel)


class FormDesk:
    """Receives forms for a service that may be full."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._files = files
        self._max_file_bytes = config.limits.max_upload_bytes
        self._urls = UrlInputs(Guard(config.network), files, self._max_file_bytes)

    @asynccontextmanager
    async def receive(self, request: Request, kind: type[_Form]) -> AsyncIterator[_Form]:
        """The form of `request`; its uploads are removed when the block fails, whatever the reason.

        A full service refuses before the body is read.

        Raises:
            CapacityError: The service is full.
            InputError: The body cannot be used.
        """
        parts: Parts | None = None
        try:
            await self._service.admit()
            shape = shape_of(kind)
            parts = await receive_form(request, shape, self._files, self._max_file_bytes, self._urls.check)
            await self._urls.fetch_into(parts)
            yield _validated(kind, {**parts.files, **parts.texts})
        except BaseException as error:
            for upload in parts.files.values() if parts else ():
                self._files.delete_upload(upload.key)
            if isinstance(error, LipwrightError) and parts is None:
                await drain(request)
            raise


@cache
def shape_of(kind: type[BaseModel]) -> FormShape:
    """Which fields of the form are files and which are text: what its OpenAPI schema says."""
    properties = kind.model_json_schema()["properties"]
    files = {name for name, schema in properties.items() if is_file(schema)}
    return FormShape(files=frozenset(files), texts=frozenset(properties) - files)


def _validated(kind: type[_Form], fields: dict[str, Any]) -> _Form:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise OptionError(describe(error.errors())) from error
