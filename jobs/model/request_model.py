"""The base of models that callers fill in."""

from __future__ import annotations

from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class RequestModel(BaseModel):
    """Accepts no unknown fields; a value equal to the default in its JSON schema counts as not sent.

    Generated clients and forms send all defaults that the schema states. A field whose default is not in the schema
    counts as sent whatever its value.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _unset_defaults(self) -> Self:
        self.model_fields_set.difference_update(
            [name for name, default in _defaults(type(self)).items() if getattr(self, name) == default]
        )
        return self


def example(**fields: str) -> ConfigDict:
    """Return the config of a model whose JSON schema has an example with these fields."""
    return ConfigDict(json_schema_extra={"examples": [dict(fields)]})


def without_default(schema: dict[str, Any]) -> None:
    """Remove the default of a field from its JSON schema; see `RequestModel`."""
    schema.pop("default", None)


def without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults of all fields from the JSON schema of a model."""
    for field in schema["properties"].values():
        without_default(field)


@cache
def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the defaults that the JSON schema of a model states."""
    properties = kind.model_json_schema()["properties"]
    return {name: field.default for name, field in kind.model_fields.items() if "default" in properties[name]}
