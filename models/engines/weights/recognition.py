"""Which engine can use a file, and as what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from errors import OptionError, WeightsError
from models.engines.protocol import TensorTable, WeightsRole


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


def places(roles: Mapping[str, Sequence[WeightsRole]], wish: Wish) -> tuple[Place, ...]:
    """Return the places that a wish speaks of.

    Args:
        roles: What engines and steps need, by their names.
        wish: What the user said.

    Raises:
        OptionError: There is none.
    """
    all_places = tuple(Place(name, role) for name, needed in roles.items() for role in needed)
    asked = tuple(place for place in all_places if wish.role in (None, place.role.name))
    if not asked:
        known = ", ".join(f"{place.engine} {place.role.name}" for place in all_places) or "none"
        of = f" of the role {wish.role!r}" if wish.role else ""
        raise OptionError(f"expected an engine that takes files{of}; there is: {known}.")
    return asked


def recognise(label: str, table: TensorTable, asked: Sequence[Place]) -> Place:
    """Ask every place whether a file with this table can be there.

    Args:
        label: What messages call the file.
        table: What it holds.
        asked: One place or more.

    Raises:
        OptionError: More than one fits.
        WeightsError: None fits; says for each why not.
    """
    faults = [(place, place.role.mismatch(table)) for place in asked]
    fitting = [place for place, fault in faults if fault is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(f"--engine {place.engine} --role {place.role.name}" for place in fitting)
        raise OptionError(f"{label}: expected a file for one place, found that several fit. Say which: {names}.")
    reasons = " | ".join(f"{place.engine} {place.role.name}: {fault}" for place, fault in faults)
    raise WeightsError(f"{label}: expected weights that an engine can use, found none that takes it. {reasons}")


Shape = tuple[int, ...]
"""Sizes; -1 is a free dimension of a file, and any size in what is expected. Rank 0: unknown, or any shape."""


def shapes_mismatch(what: str, expected: Sequence[Shape], found: Sequence[Shape]) -> str | None:
    """Compare the first shapes in a file with those expected.

    Args:
        what: "inputs" or "outputs".
        expected: Shapes in their order; a file may have more outputs, but no more inputs.
        found: The file's.

    Returns:
        None, or what was expected and found in one line.
    """
    has_count = len(found) >= len(expected) if what == "outputs" else len(found) == len(expected)
    if has_count and all(_fits(*pair) for pair in zip(expected, found, strict=False)):
        return None
    return f"expected {what} {_text(expected)}, found {_text(found)}."


def _fits(expected: Shape, found: Shape) -> bool:
    if not expected or not found:
        return True
    same = len(expected) == len(found)
    return same and all(-1 in (want, have) or want == have for want, have in zip(expected, found, strict=True))


def _text(shapes: Sequence[Shape]) -> str:
    texts = (",".join("any" if size < 0 else str(size) for size in shape) for shape in shapes)
    return " ".join(f"[{text or '...'}]" for text in texts) or "none"
