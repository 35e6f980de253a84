"""The engines that there are, by the name that a job gives. Adding one is one line here and a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from errors import OptionError
from models.engines.contract import EngineClass
from models.engines.weights.entry import split_name

ENGINES: Final[Mapping[str, str | EngineClass]] = {
    "warp": "models.engines.warp.engine:WarpEngine",
    "dinet": "models.engines.dinet.engine:DinetEngine",
    "edtalk": "models.engines.edtalk.engine:EdTalkEngine",
    "musetalk": "models.engines.musetalk.engine:MuseTalkEngine",
    "ultralight": "models.engines.ultralight.engine:UltralightEngine",
    "wav2lip": "models.engines.wav2lip.engine:Wav2LipEngine",
}
"""The class of each engine, or where it lies: `module:Class` is imported when it is first used."""


def engine_class(name: str, engines: Mapping[str, str | EngineClass] = ENGINES) -> EngineClass:
    """Return the class of an engine or of a variant of it.

    Raises:
        OptionError: There is no such engine; names those that there are.
    """
    engine, _ = split_name(name)
    if engine not in engines:
        raise OptionError(f"engine: expected one of {', '.join(engines)}, found {name[:80]!r}.")
    maker = engines[engine]
    if not isinstance(maker, str):
        return maker
    module, _, attribute = maker.partition(":")
    return cast(EngineClass, getattr(import_module(module), attribute))
