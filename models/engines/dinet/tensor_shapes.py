"""Whether the shapes in a file are those that an engine works with."""

from __future__ import annotations

from collections.abc import Sequence

Shape = tuple[int, ...]
"""Sizes; -1 is a free one in a file, and one that may be anything in what is expected. Rank 0: unknown, or anything."""


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
