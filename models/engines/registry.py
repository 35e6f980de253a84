"""The engines by the name that a job gives: those of this package, and those of installed packages.

A package adds an engine with an entry point of the group `lipwright.engines`:

    [project.entry-points."lipwright.engines"]
    my_engine = "my_package.engine:MyEngine"

The class implements `models.engines.protocol.Engine`. It is imported when it is first used.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, cast

from lipwright.errors import ConfigError, OptionError
from models.engines.protocol import EngineClass, PostProcessorClass, WeightsSpec
from models.engines.weights.index import split_name

ENTRY_POINT_GROUP: Final = "lipwright.engines"
_NAME: Final = re.compile(r"[a-z0-9_-]+")

logger = logging.getLogger(__name__)

BUILT_IN: Final[Mapping[str, str]] = {
    "warp": "models.engines.warp.engine:WarpEngine",
    "musetalk": "models.engines.musetalk.engine:MuseTalkEngine",
    "wav2lip": "models.engines.wav2lip.engine:Wav2LipEngine",
}
"""The class of each engine of this package, as `module:Class`."""

MOUTH_ENGINE: Final = "warp"
"""The engine whose audio features `models.speech.speech_to_mouth` takes."""

POST_PROCESSORS: Final[Mapping[str, str | PostProcessorClass]] = {
    "restoration": "models.engines.restoration.engine:Restoration",
}
"""What can be applied on top of an engine, in the same form."""


def discover_engines() -> dict[str, str]:
    """Return the engines of installed packages as `module:Class` by name; none of them is imported.

    A name that is not made of small letters, digits, `_` and `-`, or that another engine has, is skipped with a
    warning.
    """
    found: dict[str, str] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        package = point.dist.name if point.dist else "unknown"
        if not _NAME.fullmatch(point.name):
            logger.warning("engine %r of package %s skipped: expected a name like my_engine", point.name, package)
        elif point.name in BUILT_IN or point.name in POST_PROCESSORS or point.name in found:
            logger.warning("engine %s of package %s skipped: the name is taken", point.name, package)
        else:
            found[point.name] = f"{point.module}:{point.attr}"
    return found


ENGINES: Final[Mapping[str, str | EngineClass]] = {**BUILT_IN, **discover_engines()}
"""All engines, those of this package first: the class, or `module:Class`, which is imported when it is first used."""


def engine_class(name: str, engines: Mapping[str, str | EngineClass] = ENGINES) -> EngineClass:
    """Return the class of an engine or of a variant of it.

    Raises:
        OptionError: There is no such engine; the message lists those that exist.
        ConfigError: It cannot be imported.
    """
    engine, _ = split_name(name)
    if engine not in engines:
        raise OptionError(f"engine: expected one of {', '.join(engines)}, found {name[:80]!r}.")
    return cast(EngineClass, _resolve(engines[engine]))


def post_processor_class(name: str) -> PostProcessorClass:
    """Return the class of a post-processor or of a variant of it.

    Raises:
        OptionError: There is no such post-processor; the message lists those that exist.
        ConfigError: It cannot be imported.
    """
    step, _ = split_name(name)
    if step not in POST_PROCESSORS:
        raise OptionError(f"engine: expected one of {', '.join(POST_PROCESSORS)} after the plus, found {name[:80]!r}.")
    return cast(PostProcessorClass, _resolve(POST_PROCESSORS[step]))


def weights_specs(name: str, engines: Mapping[str, str | EngineClass] = ENGINES) -> tuple[WeightsSpec, ...]:
    """Return the files that an engine, a post-processor, or a variant of one needs."""
    is_step = split_name(name)[0] in POST_PROCESSORS
    return post_processor_class(name).weights if is_step else engine_class(name, engines).weights


def _resolve(found: str | type) -> Any:
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"engine {found}: cannot be imported: {error}") from error
