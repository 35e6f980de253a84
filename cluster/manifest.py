"""The manifest of a batch: one JSON object a line, each a pair of a face and a speech."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from cluster.locations import Location, is_url, resolve
from errors import InputError
from storage.records import LoopMode


def _url_or_path(location: object) -> Location:
    if not isinstance(location, str | Path) or not str(location):
        raise ValueError(f"expected a path or a URL, found {location!r}")
    return location if is_url(location) else Path(location)


def _mp4(location: Location) -> Location:
    if not str(location).endswith(".mp4"):
        raise ValueError("expected a name that ends in .mp4")
    return location


_LocationField = Annotated[Location, PlainValidator(_url_or_path)]


class Pair(BaseModel):
    """One line: two inputs and the result, each a path or a URL such as s3://bucket/key, and how it is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int = Field(0, exclude=True, description="Where it stands in the manifest, from 1.")
    video: _LocationField = Field(description="A video or a still portrait.")
    audio: _LocationField = Field(description="The speech, in any container.")
    out: Annotated[_LocationField, AfterValidator(_mp4)] = Field(description="Where the result goes.")
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
    line_of_out: dict[Location, int] = {}
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
        "video": resolve(pair.video, inputs),
        "audio": resolve(pair.audio, inputs),
        "out": resolve(pair.out, outputs),
    }
    return pair.model_copy(update={"line": line, **paths})


def _missing_inputs(pair: Pair) -> list[str]:
    inputs = {"video": pair.video, "audio": pair.audio}
    return [
        f"{name}: there is no file {location}"
        for name, location in inputs.items()
        if isinstance(location, Path) and not location.is_file()
    ]


def _words(detail: dict[str, object]) -> str:
    """One pydantic complaint as `field: what was expected`."""
    location = detail["loc"]
    field = ".".join(str(part) for part in location) if isinstance(location, tuple) else ""
    return f"{field}: {detail['msg']}" if field else str(detail["msg"])
