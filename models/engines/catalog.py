"""The engines of one service, with the weights that users added: makes each once, and lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lipwright.config import PipelineConfig
from lipwright.errors import OptionError
from models.engines.protocol import (
    Engine,
    EngineClass,
    EngineSettings,
    EngineWeights,
    PostProcessorClass,
    WeightsSpec,
    scales_movement,
)
from models.engines.registry import ENGINES, POST_PROCESSORS, engine_class, post_processor_class, weights_specs
from models.engines.weights.index import add_command, split_name
from models.engines.weights.store import WeightsStore


@dataclass(frozen=True)
class MissingWeights:
    """A file that an engine could use and does not have."""

    role: str  # its name
    title: str  # description for users
    is_required: bool  # whether the engine needs it
    add_command: str  # command that adds it


@dataclass(frozen=True)
class EngineRecord:
    """An engine, or a variant of one with weights of its own."""

    name: str  # name in jobs, such as `wav2lip` or `wav2lip:gan`
    title: str  # description for users
    is_installed: bool  # whether it has every file that it cannot work without
    missing: tuple[MissingWeights, ...]  # the files that it does not have
    licences: tuple[str, ...]  # known terms of its files, one line for each
    scales_movement: bool  # whether it obeys a job's expressiveness; a post-processor keeps the engine's movement


def engine_names(store: WeightsStore) -> tuple[str, ...]:
    """Return the engines and their installed variants."""
    return _with_variants(store.engines, store)


def _with_variants(names: Iterable[str], store: WeightsStore) -> tuple[str, ...]:
    variants = {entry.name for entry in store.list()}
    return tuple(
        name for base in names for name in (base, *sorted(each for each in variants if each.startswith(f"{base}:")))
    )


class EngineCatalog:
    """Makes the engines of one service, each once.

    Args:
        config: Its section `engines` holds their options, its data folder their weights.
        num_threads: CPU threads that an engine may use outside of its audio encoder and face generator.
        engines: The available engines.
    """

    def __init__(
        self,
        config: PipelineConfig,
        num_threads: int = 1,
        engines: Mapping[str, str | EngineClass] = ENGINES,
    ) -> None:
        self._config, self._num_threads = config, num_threads
        self._store = WeightsStore(config.data_dir / "weights", engines)
        self._engines: dict[str, tuple[str, Engine]] = {}  # revision and engine by name

    def check(self, name: str, expressiveness: float = 1.0) -> None:
        """Refuse an engine that cannot do a job, before the job is accepted.

        Raises:
            OptionError: There is none of that name, its weights are missing (the message says how to add them), or it
                cannot scale the movement and `expressiveness` is not 1.
        """
        parts = self._parts(name)
        self.check_expressiveness(name, expressiveness)
        for part in parts:
            lacking = [
                role
                for role in _find_missing(part, weights_specs(part, self._store.engines), self._store)
                if role.is_required
            ]
            if lacking:
                what = ", ".join(role.title for role in lacking)
                raise OptionError(f"engine {name}: missing {what}. Add it: {lacking[0].add_command}")

    def check_expressiveness(self, name: str, expressiveness: float) -> None:
        """Refuse a scale of the movement that an engine would ignore: OptionError."""
        if expressiveness != 1 and not self.scales_movement(name):
            raise OptionError(
                f"expressiveness: engine {_base(name)} cannot scale the movement; omit it or use an engine that can: "
                "warp."
            )

    def scales_movement(self, name: str) -> bool:
        """Return whether an engine or a variant, installed here or not, obeys the expressiveness of a job.

        Raises:
            OptionError: There is no such engine.
        """
        return scales_movement(engine_class(_base(name), self._store.engines))

    def engine(self, name: str) -> Engine:
        """Return an engine, or a variant of one, with the steps on top of it named behind pluses.

        It is made once, and again after its weights are replaced.

        Raises:
            OptionError: There is none of that name.
            ConfigError: One of its options cannot be used.
        """
        revision = self.revision(name)
        if self._engines.get(name, ("",))[0] != revision:
            base, plus, step = name.rpartition("+")
            if plus:
                made = post_processor_class(step)(self._settings(step)).wrap(self.engine(base))
            else:
                made = engine_class(name, self._store.engines)(self._settings(name))
            self._engines[name] = revision, made
        return self._engines[name][1]

    def revision(self, name: str) -> str:
        """Return a fingerprint of an engine and its installed weights; no weights file is read.

        Raises:
            OptionError: There is none of that name.
        """
        marks = [
            self._store.for_engine(part).fingerprint(role.name)
            for part in self._parts(name)
            for role in weights_specs(part, self._store.engines)
        ]
        return " ".join([name, *marks])

    def fingerprint(self, name: str) -> str:
        """Return a fingerprint of everything about an engine that decides its pictures: version, weights, options.

        Raises:
            OptionError: There is none of that name.
            ConfigError: One of its options cannot be used.
        """
        engine = self.engine(name)
        options = {part: dict(self._settings(part).options) for part in self._parts(name)}
        marks = {"revision": self.revision(name), "version": engine.version, "audio": engine.audio_features}
        return json.dumps({**marks, "options": options}, sort_keys=True, default=str)

    def _parts(self, name: str) -> list[str]:
        """The engine and the steps of a name."""
        base, *steps = name.split("+")
        for step in steps:
            post_processor_class(step)
        if base not in (names := engine_names(self._store)):
            raise OptionError(f"engine: expected one of {', '.join(names)}, found {base[:80]!r}")
        return [base, *steps]

    def _settings(self, name: str) -> EngineSettings:
        options = self._config.engines.get(split_name(name)[0], {})
        return EngineSettings(self._store.for_engine(name), options, self._num_threads)


def _base(name: str) -> str:
    """The engine of a name, without the steps after it."""
    return name.partition("+")[0]


def engine_list(store: WeightsStore) -> tuple[EngineRecord, ...]:
    """Return every engine and every variant that has files in the store."""
    return tuple(_record(name, store) for name in engine_names(store))


def post_processor_list(store: WeightsStore) -> tuple[EngineRecord, ...]:
    """Return the post-processors and their installed variants, by their names after the plus."""
    names = _with_variants(POST_PROCESSORS, store)
    return tuple(_record_of(name, post_processor_class(name), store, True) for name in names)


def _record(name: str, store: WeightsStore) -> EngineRecord:
    maker = engine_class(name, store.engines)
    return _record_of(name, maker, store, scales_movement(maker))


def _record_of(
    name: str, maker: EngineClass | PostProcessorClass, store: WeightsStore, is_scalable: bool
) -> EngineRecord:
    missing = _find_missing(name, maker.weights, store)
    return EngineRecord(
        name=name,
        title=maker.title,
        is_installed=not any(role.is_required for role in missing),
        missing=missing,
        licences=tuple(f"{role.title}: {role.licence}" for role in maker.weights),
        scales_movement=is_scalable,
    )


def _find_missing(name: str, roles: tuple[WeightsSpec, ...], store: WeightsStore) -> tuple[MissingWeights, ...]:
    weights = store.for_engine(name)
    return tuple(
        MissingWeights(role.name, role.title, _is_required(role, weights), add_command(name, role.name))
        for role in roles
        if not weights.has(role.name)
    )


def _is_required(role: WeightsSpec, weights: EngineWeights) -> bool:
    return role.is_required and not (role.alternative and weights.has(role.alternative))
