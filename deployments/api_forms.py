"""From a request's body to a checked form, with the files cleaned up when the request comes to nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from deployments.job_service import JobService
from deployments.problem import describe
from deployments.uploads import FormShape, drain, receive_form
from errors import LipwrightError, OptionError
from storage.file_store import FileStore
from storage.records import UploadedFile

_Form = TypeVar("_Form", bound=BaseModel)


class FormDesk:
    """Receives forms for a service that may be full."""

    def __init__(self, service: JobService, files: FileStore, max_file_bytes: int) -> None:
        self._service = service
        self._files = files
        self._max_file_bytes = max_file_bytes

    @asynccontextmanager
    async def receive(self, request: Request, kind: type[_Form]) -> AsyncIterator[_Form]:
        """The form of `request`; its uploads are removed when the block fails, whatever the reason.

        A full service refuses before the body is read.

        Raises:
            CapacityError: The service is full.
            InputError: The body cannot be used.
        """
        parts: dict[str, UploadedFile | str] = {}
        try:
            await self._service.admit()
            parts = await receive_form(request, shape_of(kind), self._files, self._max_file_bytes)
            yield _validated(kind, parts)
        except BaseException as error:
            for part in parts.values():
                if isinstance(part, UploadedFile):
                    self._files.delete_upload(part.key)
            if isinstance(error, LipwrightError) and not parts:
                await drain(request)
            raise


@cache
def shape_of(kind: type[BaseModel]) -> FormShape:
    """Which fields of the form are files and which are text: what its OpenAPI schema says."""
    properties = kind.model_json_schema()["properties"]
    files = {
        name
        for name, schema in properties.items()
        if any(option.get("format") == "binary" for option in (schema, *schema.get("anyOf", ())))
    }
    return FormShape(files=frozenset(files), texts=frozenset(properties) - files)


def _validated(kind: type[_Form], parts: dict[str, UploadedFile | str]) -> _Form:
    try:
        return kind.model_validate(parts)
    except ValidationError as error:
        raise OptionError(describe(error.errors())) from error
