"""Digest of a request, stored with the job of an idempotency key to recognize repeated requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from jobs.model.avatar_settings import MovementSettings
from jobs.model.files import UploadedFile

_NAMES: Final = {"JobSpec": "JobForm"}
"""Names in digests that older versions have stored."""


def request_digest(form: BaseModel, urls: Mapping[str, str]) -> str:
    """Return the hexadecimal SHA-256 of a form's type, fields and files.

    Default values count as absent, except those of a movement, which override what an avatar has. The order of fields
    and the names of files do not matter. Files count by content, whatever their encoding; files named by URL count by
    the URL, as they are not downloaded again.

    Args:
        form: The validated form.
        urls: URLs of files, by the name of the file field.
    """
    overrides = form.model_fields_set & MovementSettings.model_fields.keys()
    meaning = form.model_dump(mode="json", exclude_defaults=True) | form.model_dump(mode="json", include=overrides)
    for name, value in form:
        if isinstance(value, UploadedFile):
            meaning[name] = _content(name, value, urls)
        elif isinstance(value, dict) and any(isinstance(file, UploadedFile) for file in value.values()):
            meaning[name] = {field: _content(field, file, urls) for field, file in value.items()}
    text = json.dumps([_NAMES.get(type(form).__name__, type(form).__name__), meaning], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(field: str, file: UploadedFile, urls: Mapping[str, str]) -> list[str]:
    return ["url", urls[field]] if field in urls else ["sha256", file.sha256]
