"""The engines that there are, by name; a class is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from errors import OptionError
from models.engines.contract import Engine, EngineMaker, EngineSettings
from models.engines.weights.entry import add_command, join_name, split_name

if TYPE_CHECKING:
    from models.engines.weights.store import WeightsStore

ENGINES: Final[Mapping[str, str | EngineMaker]] = {
    "warp": "models.engines.warp.engine:WarpEngine",
}
"""Name -> "module:Class", or the class itself."""


@dataclass(frozen=True)
class MissingRole:
    """A file that an engine could use and does not have.

    Attributes:
        role: Its name.
        title: What it is, for people.
        is_required: Whether the engine cannot work without it.
        add_command: How it is added.
    """

    role: str
    title: str
    is_required: bool
    add_command: str


@dataclass(frozen=True)
class EngineRecord:
    """An engine, or a variant of one with weights of its own.

    Attributes:
        name: What a job calls it, such as `wav2lip` or `wav2lip:gan`.
        title: What it is, for people.
        is_installed: Whether it has every file that it cannot work without.
        missing: The files that it does not have.
        licences: Known terms of its files, one line for each.
    """

    name: str
    title: str
    is_installed: bool
    missing: tuple[MissingRole, ...]
    licences: tuple[str, ...]


def engine_class(name: str, engines: Mapping[str, str | EngineMaker] = ENGINES) -> EngineMaker:
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
    return cast(EngineMaker, getattr(import_module(module), attribute))


def engine_names(store: WeightsStore) -> tuple[str, ...]:
    """Return the engines and their installed variants."""
    variants = {entry.name for entry in store.list()}
    return tuple(
        name
        for engine in store.engines
        for name in (engine, *sorted(each for each in variants if each.startswith(f"{engine}:")))
    )


def make_engine(name: str, store: WeightsStore, options: Mapping[str, Any]) -> Engine:
    """Make an engine with its weights; none of them is read here.

    Args:
        name: An engine, or a variant that has files in the store.
        store: Where the weights lie.
        options: The engine's section of the settings.

    Raises:
        OptionError: There is no such engine or variant; names those that there are.
        ConfigError: One of the options cannot be used.
    """
    names = engine_names(store)
    if name not in names:
        raise OptionError(f"engine: expected one of {', '.join(names)}, found {name[:80]!r}.")
    return engine_class(name, store.engines)(EngineSettings(store.for_engine(name), options))


def engine_list(store: WeightsStore) -> tuple[EngineRecord, ...]:
    """Return every engine and every variant that has files in the store."""
    return tuple(_record(name, store) for name in engine_names(store))


def _record(name: str, store: WeightsStore) -> EngineRecord:
    maker = engine_class(name, store.engines)
    engine, variant = split_name(name)
    weights = store.for_engine(name)
    missing = tuple(
        MissingRole(role.name, role.title, role.is_required, add_command(join_name(engine, variant), role.name))
        for role in maker.weights
        if not weights.has(role.name)
    )
    title = str(getattr(maker, "title", engine))
    return EngineRecord(
        name=name,
        title=f"{title} ({variant})" if variant else title,
        is_installed=not any(role.is_required for role in missing),
        missing=missing,
        licences=tuple(f"{role.title}: {role.licence}" for role in maker.weights),
    )
