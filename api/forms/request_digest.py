"""What a request asks for, as one digest: kept with the job of an idempotency key, so that the same is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel

from storage.records import UploadedFile


def request_digest(form: BaseModel, urls: Mapping[str, str]) -> str:
    """SHA-256, hexadecimal, of the form's kind, its fields and its files.

    What stands at its default counts as absent, and the order of fields and the names of files say nothing. A file
    counts by its content, however it was encoded; one that is named by URL counts by that, as it is not fetched again.

    Args:
        form: The checked form.
        urls: The URLs that stand for files, by the names of the files' fields.
    """
    meaning = form.model_dump(mode="json", exclude_defaults=True)
    for name, value in form:
        if name in urls:
            meaning[name] = ["url", urls[name]]
        elif isinstance(value, UploadedFile):
            meaning[name] = ["sha256", value.sha256]
    text = json.dumps([type(form).__name__, meaning], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
