"""Which engine can use a file, and as what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from errors import OptionError, WeightsError
from models.engines.protocol import TensorTable, WeightsSpec


@dataclass(frozen=True)
class RoleMatch:
    """An engine and a role that a file can have in it.

    Attributes:
        engine: Name of the engine.
        spec: The file's role in it.
    """

    engine: str
    spec: WeightsSpec


@dataclass(frozen=True)
class AddRequest:
    """The request.

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


def candidates(roles: Mapping[str, Sequence[WeightsSpec]], request: AddRequest) -> tuple[RoleMatch, ...]:
    """Return the engines and roles that a request allows.

    Args:
        roles: What engines and steps need, by their names.
        request: The request.

    Raises:
        OptionError: There is none.
    """
    all_matches = tuple(RoleMatch(name, role) for name, needed in roles.items() for role in needed)
    asked = tuple(match for match in all_matches if request.role in (None, match.spec.name))
    if not asked:
        known = ", ".join(f"{match.engine} {match.spec.name}" for match in all_matches) or "none"
        of = f" of the role {request.role!r}" if request.role else ""
        raise OptionError(f"no engine takes files{of}. Available: {known}.")
    return asked


def recognise(label: str, table: TensorTable, asked: Sequence[RoleMatch]) -> RoleMatch:
    """Find the only role that a file can have.

    Args:
        label: What messages call the file.
        table: What it holds.
        asked: One or more.

    Raises:
        OptionError: More than one fits.
        WeightsError: None fits; says for each why not.
    """
    faults = [(match, match.spec.mismatch(table)) for match in asked]
    fitting = [match for match, fault in faults if fault is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(f"--engine {match.engine} --role {match.spec.name}" for match in fitting)
        raise OptionError(f"{label}: several engines can use this file. Choose one: {names}.")
    reasons = " | ".join(f"{match.engine} {match.spec.name}: {fault}" for match, fault in faults)
    raise WeightsError(f"{label}: no engine can use this file. {reasons}")


Shape = tuple[int, ...]
"""Sizes; -1 is a free dimension of a file, and any size in what is expected. Rank 0: unknown, or any shape."""


def shapes_mismatch(what: str, expected: Sequence[Shape], found: Sequence[Shape]) -> str | None:
    """Compare the first shapes in a file with those expected.

    Args:
        what: "inputs" or "outputs".
        expected: Shapes in their order; a file may have more outputs, but not more inputs.
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
