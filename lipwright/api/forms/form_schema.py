"""Forms as JSON schemas: their OpenAPI request bodies, which of their fields hold files, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from lipwright.api.forms.form_parts import MAX_TEXT_BYTES, MORE_AUDIO, FileFields, FormFields
from lipwright.api.validation_message import describe
from lipwright.errors import OptionError
from lipwright.jobs.model.spec import SpeechSpec

_MORE = "more_audio"
MAX_OBJECT_BYTES: Final = 1 << 20
"""Maximum size of JSON with the turns of a job."""
_MAX_CHAR_BYTES: Final = 4  # in UTF-8
_FILE_TEXT = {"type": "string", "description": "A URL, a data URL (`data:audio/wav;base64,...`) or base64 data."}

_Form = TypeVar("_Form", bound=BaseModel)


def form_body(form: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that parses its own body: multipart, or JSON with base64 or URLs.

    The body is not marked as required: openapi-python-client 0.29 would otherwise generate modules that it cannot
    import, because it forgets one import for operations with two content types and no optional parameter.
    """
    schema = inlined_schema(form)
    fields: dict[str, Any] = schema["properties"]
    more = fields.pop(_MORE, None)
    files = {name: field for name, field in fields.items() if is_file(field)}
    urls = {f"{name}_url": _url_field(name) for name in files}
    required = schema.pop("required", ())
    either = [
        {"anyOf": [{"required": [name]}, {"required": [f"{name}_url"]}]} if name in files else {"required": [name]}
        for name in required
    ]
    if issubclass(form, SpeechSpec):
        either.append({"anyOf": [{"required": [name]} for name in form.speech_fields]})
    in_json: dict[str, Any] = {
        "title": f"{form.__name__}InJson",
        "description": "The same form as JSON, with files as base64 or URLs.",
    }
    if more is not None:
        file = {**more["additionalProperties"], "description": more["description"]}
        url = {f"^{MORE_AUDIO}_url$": _url_field("audio_NAME")}
        schema["patternProperties"] = {f"^{MORE_AUDIO}$": file, **url}
        in_json["patternProperties"] = {f"^{MORE_AUDIO}$": _FILE_TEXT, **url}
    parts = {name: _part(field, name in required) for name, field in {**fields, **urls}.items()}
    by_url = {name: _FILE_TEXT if name in files else field for name, field in fields.items()}
    multipart = {**schema, "properties": parts, "allOf": either}
    content = {
        "multipart/form-data": {"schema": multipart},
        "application/json": {"schema": {**multipart, **in_json, "properties": {**by_url, **urls}}},
    }
    return {"requestBody": {"content": content}}


def inlined_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model without references."""
    return _inline_definitions(kind.model_json_schema())


def _part(field: dict[str, Any], is_required: bool) -> dict[str, Any]:
    """Return the schema of a field as a part of a multipart form: not null, lists and objects as JSON text.

    Optional parts are empty. Clients send a list as several parts, and a form in a browser sends an example or default
    of every field.
    """
    (kind,) = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    part = {**{name: value for name, value in field.items() if name != "anyOf"}, **kind}
    if kind.get("type") == "array" or "properties" in kind:
        content = {name: kind[name] for name in ("type", "items", "properties", "required") if name in kind}
        as_text = {"contentMediaType": "application/json", "contentSchema": content}
        part = {"type": "string", "title": part["title"], "description": field["description"], **as_text}
    return part if is_required or is_file(field) or kind.get("type") == "object" else {**part, "examples": [""]}


def _inline_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with its definitions in place of the references to them: OpenAPI keeps definitions elsewhere."""
    definitions = schema.get("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            whole = {**definitions[name], **part} if name else part
            return {key: inlined(value) for key, value in whole.items() if key not in ("$ref", "$defs")}
        return [inlined(each) for each in part] if isinstance(part, list) else part

    found: dict[str, Any] = inlined(schema)
    return found


def is_file(field: dict[str, Any]) -> bool:
    """Return whether a field of a JSON schema is a file."""
    return any(option.get("format") == "binary" for option in (field, *field.get("anyOf", ())))


def _is_structured(field: dict[str, Any]) -> bool:
    return any(option.get("type") in ("object", "array") for option in (field, *field.get("anyOf", ())))


@cache
def accepted_fields(kind: type[BaseModel]) -> FormFields:
    """Return the fields of a form, from its JSON schema."""
    properties = dict(inlined_schema(kind)["properties"])
    has_more = properties.pop(_MORE, None) is not None
    files = FileFields(frozenset(name for name, schema in properties.items() if is_file(schema)), has_more)
    objects = frozenset(name for name, schema in properties.items() if _is_structured(schema))
    return FormFields(files, {name: _max_bytes(properties[name]) for name in properties.keys() - files.names}, objects)


def _max_bytes(field: dict[str, Any]) -> int:
    if _is_structured(field):
        return MAX_OBJECT_BYTES
    max_chars: int = max(option.get("maxLength", 0) for option in (field, *field.get("anyOf", ())))
    return max(MAX_TEXT_BYTES, max_chars * _MAX_CHAR_BYTES)


def validated(kind: type[_Form], fields: Mapping[str, object]) -> _Form:
    """Return the form with these fields.

    Raises:
        OptionError: A field is missing or invalid.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise OptionError(describe(error.errors())) from error


def _url_field(name: str) -> dict[str, str]:
    return {"type": "string", "format": "uri", "description": f"URL to download instead of sending `{name}`."}
