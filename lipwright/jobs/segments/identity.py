"""Digests of values, and the identity of a segment: everything that decides its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from fractions import Fraction
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel

from lipwright.config import LabelsConfig, RenderConfig
from lipwright.jobs.messages import SegmentRequest, SegmentWatermark
from lipwright.jobs.model.plan import JobPlan

_PACKAGES: Final = ("av", "numpy", "opencv-python-headless", "onnxruntime", "torch")
"""Packages that decode, compute and encode the pictures."""
_CODE: Final = ("models", "lipwright/media", "lipwright/rendering")
"""Our own packages that do."""


def segment_identity(
    request: SegmentRequest,
    watermark: SegmentWatermark,
    engine: str,
    source_sha256: str,
    plan: JobPlan,
    render: RenderConfig,
    labels: LabelsConfig,
) -> str:
    """Return the hash of everything that decides the bytes of a segment, hexadecimal.

    Of files, the content counts and not the key: the key of an avatar is a hash of its source and of how that is
    analysed. The device is left out: pictures from a GPU and a CPU differ by less than encoding changes.

    Args:
        request: The segment.
        watermark: Its watermarks and texts.
        engine: Fingerprint of the engine; see `EngineCatalog.fingerprint`.
        source_sha256: Hash of the source.
        plan: The plan of the job.
        render: The settings of the encoder.
        labels: The look of the visible watermark.

    Raises:
        TypeError: The plan of the engine contains something other than dataclasses, arrays and plain values.
    """
    content = replace(request, source=replace(request.source, key=source_sha256))
    if (background := request.background) is not None and background.file is not None:
        assert plan.background_file is not None
        file = replace(background.file, key=plan.background_file.sha256)
        content = replace(content, background=replace(background, file=file))
    look = (labels.visible_language, labels.visible_height) if watermark.corners else None
    encoder = render.encoder, render.preset, render.crf, render.encoder_threads
    return digest(code_revision(), engine, content, watermark, look, encoder)


@cache
def code_revision() -> str:
    """Return a fingerprint of the code that makes the pictures: our own files, and the versions of packages."""
    root = Path(__file__).parents[3]
    files = sorted(path for name in _CODE for path in (root / name).rglob("*.py"))
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return digest(hashes, [f"{name} {_version(name)}" for name in _PACKAGES])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def digest(*values: object) -> str:
    """Return the SHA-256 of values, hexadecimal: dataclasses, models, tuples, mappings, arrays and plain values.

    Raises:
        TypeError: There is a value of another type.
    """
    hashed = hashlib.sha256()
    _add(values, hashed.update)
    return hashed.hexdigest()


def _add(value: Any, update: Callable[[bytes], object]) -> None:
    """Hash a value with its type and length, so that different values do not look alike."""
    update(f"{type(value).__name__}(".encode())
    if value is None or isinstance(value, bool | int | float | str | Fraction | np.generic):
        update(repr(value.value if isinstance(value, Enum) else value).encode())
    elif isinstance(value, bytes):
        update(f"{len(value)},".encode() + value)
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("Expected an array of numbers.")
        update(f"{value.dtype.str}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        _add_items(((field.name, getattr(value, field.name)) for field in fields(value)), update)
    elif isinstance(value, BaseModel):
        _add_items(value, update)
    elif isinstance(value, Mapping):
        _add_items(((repr(key), value[key]) for key in sorted(value, key=repr)), update)
    elif isinstance(value, tuple | list):
        _add_items(((str(number), each) for number, each in enumerate(value)), update)
    else:
        raise TypeError(f"Expected a dataclass, an array or a plain value, got {type(value)}.")
    update(b")")


def _add_items(items: Iterable[tuple[str, object]], update: Callable[[bytes], object]) -> None:
    for name, value in items:
        update(f"{name}=".encode())
        _add(value, update)
