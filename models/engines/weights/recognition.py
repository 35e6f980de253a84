"""Which engine can use a file, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from errors import OptionError, WeightsError
from models.engines.contract import EngineMaker, TensorTable, WeightsRole


@dataclass(frozen=True)
class Place:
    """Where a file belongs.

    Attributes:
        engine: Name of the engine.
        role: The file's part in it.
    """

    engine: str
    role: WeightsRole


@dataclass(frozen=True)
class Wish:
    """What the user said of a file.

    Attributes:
        engine: The engine that it is for; None tries all.
        role: Its role; None tries all.
        variant: Name of the variant that it belongs to; None is the one without a name.
        sha256: What it has to be, in hexadecimal digits.
    """

    engine: str | None = None
    role: str | None = None
    variant: str | None = None
    sha256: str | None = None


def recognise(label: str, table: TensorTable, engines: Mapping[str, EngineMaker], wish: Wish) -> Place:
    """Ask every role of `engines` whether a file with this table can play it.

    Raises:
        OptionError: No engine wants a file of such a role, or more than one place fits and the wish does not tell.
        WeightsError: No engine can use it; says for each why not.
    """
    places = [Place(engine, role) for engine, maker in engines.items() for role in maker.weights]
    asked = [place for place in places if wish.role in (None, place.role.name)]
    if not asked:
        known = ", ".join(f"{place.engine} {place.role.name}" for place in places) or "none"
        of = f" of the role {wish.role!r}" if wish.role else ""
        raise OptionError(f"{label}: expected an engine that takes files{of}; there is: {known}.")
    faults = [(place, place.role.mismatch(table)) for place in asked]
    fitting = [place for place, fault in faults if fault is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(f"--engine {place.engine} --role {place.role.name}" for place in fitting)
        raise OptionError(f"{label}: expected a file for one place, found that several fit: say {names}.")
    reasons = " | ".join(f"{place.engine} {place.role.name}: {fault}" for place, fault in faults)
    raise WeightsError(f"{label}: expected weights that an engine can use, found none that takes it: {reasons}")
