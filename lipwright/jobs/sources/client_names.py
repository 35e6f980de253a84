"""Errors about uploads name files as the client does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lipwright.errors import InputError, StageTimeoutError
from lipwright.jobs.model.base import UploadedFile


@contextmanager
def client_names(*uploads: UploadedFile | None) -> Iterator[None]:
    """Make errors inside the block name files as the client does."""
    try:
        yield
    except (InputError, StageTimeoutError) as error:
        text = str(error)
        for upload in uploads:
            if upload is not None and upload.label:
                text = text.replace(upload.key, upload.label)
        raise type(error)(text) from None
