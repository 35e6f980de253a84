"""The engines that there are, by the name that a job gives. Adding one is one line here and a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from config import PipelineConfig
from errors import OptionError, WeightsError
from models.engines.contract import Engine, EngineMaker, EngineSettings, EngineWeights

ENGINES: Final[Mapping[str, str | EngineMaker]] = {
    "warp": "models.engines.warp.engine:WarpEngine",
}
"""The class of each engine, or where it lies: `module:Class` is imported when it is first used."""


class _NoWeights:
    def path(self, role: str) -> Path:
        raise WeightsError(f"There is no file for {role}.")

    def has(self, role: str) -> bool:
        return False


def engine_class(name: str, engines: Mapping[str, str | EngineMaker] = ENGINES) -> EngineMaker:
    """Return the class of an engine.

    Raises:
        OptionError: There is none of that name.
    """
    if name not in engines:
        raise OptionError(f"engine: expected one of {', '.join(engines)}, found {name!r}")
    found = engines[name]
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    maker: EngineMaker = getattr(import_module(module), attribute)
    return maker


class EngineRoom:
    """Makes the engines of one service, each once.

    Args:
        config: Its section `engines` holds their options.
        num_threads: CPU threads that an engine may use outside of its listener and painter.
        engines: What there is to choose from.
    """

    def __init__(
        self,
        config: PipelineConfig,
        num_threads: int = 1,
        engines: Mapping[str, str | EngineMaker] = ENGINES,
    ) -> None:
        self._config, self._num_threads, self._makers = config, num_threads, engines
        self._engines: dict[str, Engine] = {}

    @property
    def names(self) -> Iterable[str]:
        """What a job may name."""
        return tuple(self._makers)

    def engine(self, name: str) -> Engine:
        """Return an engine.

        Raises:
            OptionError: There is none of that name.
            ConfigError: One of its options cannot be used.
        """
        if name not in self._engines:
            weights: EngineWeights = _NoWeights()
            settings = EngineSettings(weights, self._config.engines.get(name, {}), self._num_threads)
            self._engines[name] = engine_class(name, self._makers)(settings)
        return self._engines[name]
