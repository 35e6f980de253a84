"""An engine's section of the service's settings, checked by the engine's own model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def read_options(model: type[Options], engine: str, options: Mapping[str, Any]) -> Options:
    """Returns the options of an engine.

    Raises:
        ConfigError: One of them does not exist or cannot be used.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(f"engines.{engine}: {error}") from error
