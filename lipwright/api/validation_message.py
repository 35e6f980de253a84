"""Messages of validation errors, without pydantic's wording."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


def describe(pydantic_errors: Iterable[Mapping[str, Any]]) -> str:
    """Return pydantic's list of errors as one line: `limit: must be less than or equal to 100; status: ...`."""
    lines, errors = [], list(pydantic_errors)
    outer = {error["loc"][:length] for error in errors for length in range(1, len(error["loc"]))}
    for item in errors:
        if item["loc"] in outer:
            continue  # only says that a part is wrong, as the error of that part does
        field = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path", "header"))
        message = _plain_message(item)
        lines.append(f"{field}: {message}" if field else message)
    return "; ".join(lines)


def _plain_message(item: Mapping[str, Any]) -> str:
    """Return the message of one error without pydantic's wording."""
    match item["type"]:
        case "value_error":
            return str(item["ctx"]["error"])
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "unknown field"
    message = str(item["msg"]).partition(", unable to parse")[0]
    message = re.sub(r"\ba valid (?=[aeio])", "an ", message).replace("a valid ", "a ")
    message = message.replace("a dictionary", "an object")
    return re.sub(r"^[A-Z][a-z]+ should ", "must ", message)
