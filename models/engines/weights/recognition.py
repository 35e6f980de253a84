"""Determines which engine can use a file, and in which role."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lipwright.errors import OptionError, WeightsError
from models.engines.protocol import TensorTable, WeightsSpec


@dataclass(frozen=True)
class RoleMatch:
    """An engine and a role that a file can have in it."""

    engine: str  # name of the engine
    spec: WeightsSpec  # the file's role in it


@dataclass(frozen=True)
class AddRequest:
    """The request."""

    engine: str | None = None  # the engine that it is for; None tries all
    role: str | None = None  # its role; None tries all
    variant: str | None = None  # name of the variant that it belongs to; None is the one without a name
    sha256: str | None = None  # required SHA-256, hexadecimal


def candidates(roles: Mapping[str, Sequence[WeightsSpec]], request: AddRequest) -> tuple[RoleMatch, ...]:
    """Return the engines and roles that a request allows, of what engines and steps need by their names.

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
    """Find the only role of those asked, one or more, that a file can have; messages call the file `label`.

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

_COUNTER: Final = "num_batches_tracked"  # of batch normalisation: not used in inference, and missing in some files


def without_counters(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of the tensors that inference uses."""
    return {name: shape for name, shape in shapes.items() if not name.endswith(_COUNTER)}


def tensors_mismatch(
    title: str, expected: Mapping[str, Shape], found: Mapping[str, Shape], *, are_all: bool = True
) -> str | None:
    """Compare the shapes of a file's tensors with those expected; counters of batch normalisation may be missing.

    Args:
        title: What the file should hold.
        expected: Shapes by name, the most telling ones first.
        found: The file's.
        are_all: Whether the file may hold no others.

    Returns:
        None, or what was expected and found in one line.
    """
    for name, shape in expected.items():
        if found.get(name) != shape:
            return f"expected {title} with {name} {shape}, found {found.get(name, 'none')}"
    more = sorted(without_counters(found).keys() - expected.keys())
    if are_all and more:
        return f"expected {title} with {len(expected)} tensors, found {len(more)} more, as {more[0]}"
    return None


def ports_mismatch(table: TensorTable, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> str | None:
    """Compare an ONNX file with expected inputs and first outputs, in their order; it may have more outputs.

    Returns:
        None, or what was expected and found in one line.
    """
    if table.format != "onnx":
        return f"expected an ONNX file, found {table.format}."
    pairs = ("inputs", inputs, table.inputs), ("outputs", outputs, table.outputs[: len(outputs)])
    for what, expected, found in pairs:
        fits = len(found) == len(expected) and all(
            not want or not have or shape_fits(have, want) for want, have in zip(expected, found, strict=True)
        )
        if not fits:
            return f"expected {what} {_text(expected)}, found {_text(found)}."
    return None


def shape_fits(found: Shape, expected: Shape, free: Container[int] = range(64)) -> bool:
    """Return whether a shape has the expected sizes, of which -1 is any; in the places `free` the file may be free."""
    return len(found) == len(expected) and all(
        want in (-1, have) or (have == -1 and place in free)
        for place, (have, want) in enumerate(zip(found, expected, strict=True))
    )


def input_roles(
    inputs: Sequence[Shape], expected: Mapping[str, Shape], free: Container[int] = range(64)
) -> list[str] | None:
    """Return the role of each input of an ONNX file, for exports that differ in names and order, but not in shapes.

    Args:
        inputs: Shapes in the file's order.
        expected: The shape of each role; see `shape_fits`, also for `free`.
        free: Places in which the file may be free.

    Returns:
        One role for each input; None unless every role is there once.
    """
    roles = [
        next((role for role, shape in expected.items() if shape_fits(found, shape, free)), "unknown")
        for found in inputs
    ]
    return roles if sorted(roles) == sorted(expected) else None


def _text(shapes: Sequence[Shape]) -> str:
    texts = (",".join("any" if size < 0 else str(size) for size in shape) for shape in shapes)
    return " ".join(f"[{text or '...'}]" for text in texts) or "none"
