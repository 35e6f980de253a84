"""The engines that there are, by the name that a job gives. Adding one is one line here and a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from errors import OptionError
from models.engines.protocol import EngineClass, PostProcessorClass, WeightsSpec
from models.engines.weights.index import split_name

ENGINES: Final[Mapping[str, str | EngineClass]] = {
    "warp": "models.engines.warp.engine:WarpEngine",
    "dinet": "models.engines.dinet.engine:DinetEngine",
    "edtalk": "models.engines.edtalk.engine:EdTalkEngine",
    "musetalk": "models.engines.musetalk.engine:MuseTalkEngine",
    "ultralight": "models.engines.ultralight.engine:UltralightEngine",
    "wav2lip": "models.engines.wav2lip.engine:Wav2LipEngine",
}
"""The class of each engine, or where it lies: `module:Class` is imported when it is first used."""


POST_PROCESSORS: Final[Mapping[str, str | PostProcessorClass]] = {
    "restoration": "models.engines.restoration.engine:Restoration",
}
"""What can be put on top of an engine, in the same way."""


def engine_class(name: str, engines: Mapping[str, str | EngineClass] = ENGINES) -> EngineClass:
    """Return the class of an engine or of a variant of it.

    Raises:
        OptionError: There is no such engine; names those that there are.
    """
    engine, _ = split_name(name)
    if engine not in engines:
        raise OptionError(f"engine: expected one of {', '.join(engines)}, found {name[:80]!r}.")
    return cast(EngineClass, _resolved(engines[engine]))


def post_processor_class(name: str) -> PostProcessorClass:
    """Return the class of a step.

    Raises:
        OptionError: There is no such step; names those that there are.
    """
    if name not in POST_PROCESSORS:
        raise OptionError(f"engine: expected behind the plus one of {', '.join(POST_PROCESSORS)}, found {name[:80]!r}.")
    return cast(PostProcessorClass, _resolved(POST_PROCESSORS[name]))


def weights_specs(name: str, engines: Mapping[str, str | EngineClass] = ENGINES) -> tuple[WeightsSpec, ...]:
    """Return what the user has to bring for an engine, a variant of one, or a step."""
    return post_processor_class(name).weights if name in POST_PROCESSORS else engine_class(name, engines).weights


def _resolved(found: str | type) -> Any:
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    return getattr(import_module(module), attribute)
