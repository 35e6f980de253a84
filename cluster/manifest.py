"""The manifest of a batch: one JSON object a line, each a pair of a face and a speech."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from cluster.places import Place, is_url, place_of
from errors import InputError
from storage.records import LoopMode


def _url_or_path(place: object) -> Place:
    if not isinstance(place, str | Path) or not str(place):
        raise ValueError(f"expected a path or a URL, found {place!r}")
    return place if is_url(place) else Path(place)


def _mp4(place: Place) -> Place:
    if not str(place).endswith(".mp4"):
        raise ValueError("expected a name that ends in .mp4")
    return place


_Place = Annotated[Place, PlainValidator(_url_or_path)]


class Pair(BaseModel):
    """One line: two inputs and the result, each a path or a URL such as s3://bucket/key, and how it is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int = Field(0, exclude=True, description="Where it stands in the manifest, from 1.")
    video: _Place = Field(description="A video or a still portrait.")
    audio: _Place = Field(description="The speech, in any container.")
    out: Annotated[_Place, AfterValidator(_mp4)] = Field(description="Where the result goes.")
    engine: str | None = None
    face: str = "largest"
    loop: LoopMode = "pingpong"


def read_manifest(manifest: Path, out_dir: Path | None = None) -> list[Pair]:
    """Read and check a whole manifest before any work is done.

    Args:
        manifest: The JSON lines. Relative input paths are relative to its folder; empty lines are skipped.
        out_dir: What relative result paths are relative to; the manifest's folder when None. Inputs that URLs name
            are not looked for here: one that is missing fails its pair.

    Raises:
        InputError: The file cannot be read, or lines of it cannot be used; the message names every such line.
    """
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: expected JSON lines in UTF-8, found: {error}") from error
    pairs: list[Pair] = []
    complaints: list[str] = []
    line_of_out: dict[Place, int] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            pair = _resolved(Pair.model_validate_json(text), number, manifest.parent, out_dir or manifest.parent)
        except ValidationError as error:
            complaints += [f"{manifest}:{number}: {_words(dict(detail))}" for detail in error.errors()]
            continue
        complaints += [f"{manifest}:{number}: {complaint}" for complaint in _missing_inputs(pair)]
        first = line_of_out.setdefault(pair.out, number)
        if first != number:
            complaints.append(f"{manifest}:{number}: out: {pair.out} is the result of line {first} already")
        pairs.append(pair)
    if not pairs and not complaints:
        complaints.append(f"{manifest}: expected at least one line, found none")
    if complaints:
        raise InputError("\n".join(complaints))
    return pairs


def _resolved(pair: Pair, line: int, inputs: Path, outputs: Path) -> Pair:
    paths = {
        "video": place_of(pair.video, inputs),
        "audio": place_of(pair.audio, inputs),
        "out": place_of(pair.out, outputs),
    }
    return pair.model_copy(update={"line": line, **paths})


def _missing_inputs(pair: Pair) -> list[str]:
    inputs = {"video": pair.video, "audio": pair.audio}
    return [
        f"{name}: there is no file {place}"
        for name, place in inputs.items()
        if isinstance(place, Path) and not place.is_file()
    ]


def _words(detail: dict[str, object]) -> str:
    """One pydantic complaint as `field: what was expected`."""
    location = detail["loc"]
    field = ".".join(str(part) for part in location) if isinstance(location, tuple) else ""
    return f"{field}: {detail['msg']}" if field else str(detail["msg"])
