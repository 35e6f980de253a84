"""The manifest of a batch: one pair of a face and speech per JSON line, or per row of a CSV file with a header."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, ValidationError, model_validator

from api.forms.form_parts import MORE_AUDIO
from api.forms.form_schema import shape_of, validated
from api.validation_message import describe
from cluster.locations import Location, is_url, resolve
from errors import InputError
from jobs.model.files import UploadedFile
from jobs.model.job_settings import JobSettings
from jobs.model.spec import MAX_TEXT_CHARS, JobSpec
from jobs.model.turns import MAX_TURNS, MAX_VOICE_CHARS, SpeakerChoice, SubtitlePlace, Turn

_UNREAD: Final = UploadedFile(key="", sha256="", num_bytes=0, label="")
"""Stands for each file while a line is validated."""


def _url_or_path(location: object) -> Location:
    if not isinstance(location, str | Path) or not str(location):
        raise ValueError(f"expected a path or a URL, found {location!r}")
    return location if is_url(location) else Path(location)


_LocationField = Annotated[Location, PlainValidator(_url_or_path)]


class Pair(JobSettings):
    """One line: a face, speech, the result and options. Files are paths or URLs such as s3://bucket/key.

    The fields `audio_NAME` of a line are in `more_audio`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int = Field(0, exclude=True, description="Line number in the manifest, from 1.")
    video: _LocationField = Field(description="A video or a still portrait.")
    audio: _LocationField | None = Field(None, description="The speech, in any audio or video format.")
    text: str | None = Field(None, max_length=MAX_TEXT_CHARS, description="Text to speak instead of `audio`.")
    voice: str | None = Field(None, min_length=1, max_length=MAX_VOICE_CHARS, description="Voice for the text.")
    turns: tuple[Turn, ...] | None = Field(None, max_length=MAX_TURNS, description="As in the API.")
    more_audio: dict[str, _LocationField] = Field({}, description="Further audio files, to which `turns` refer.")
    diarization: _LocationField | None = Field(None, description="RTTM or JSON file: who speaks when in `audio`.")
    subtitles: _LocationField | None = Field(None, description="SRT or WebVTT file that is spoken instead of `audio`.")
    speakers: dict[str, SpeakerChoice] = Field({}, description="Faces and voices of speakers, by name.")
    idle_mouths: Literal["source", "closed"] | None = Field(None, description="As in the API.")
    subtitles_output: SubtitlePlace | None = Field(None, description="As in the API.")
    max_audio_stretch: float | None = Field(None, description="As in the API.")
    music: _LocationField | None = Field(None, description="Audio file that plays under the speech.")
    music_gain_db: float | None = Field(None, description="As in the API.")
    background_file: _LocationField | None = Field(None, description="Picture or video behind the person.")
    out: _LocationField = Field(description="The result.")
    engine: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _collect_audio(cls, line: object) -> object:
        if not isinstance(line, dict):
            return line
        if "more_audio" in line:
            raise ValueError("more_audio: unknown field")
        more = {name: location for name, location in line.items() if re.fullmatch(MORE_AUDIO, name)}
        rest = {name: value for name, value in line.items() if name not in more}
        return {**rest, "more_audio": more} if more else rest

    @model_validator(mode="after")
    def _named_by_format(self) -> Self:
        if not str(self.out).endswith(f".{self.format}"):
            raise ValueError(f"out: expected a name that ends in .{self.format}")
        return self

    @model_validator(mode="after")
    def _as_in_the_api(self) -> Self:
        """Apply the rules of the API, which do not depend on the content of files."""
        self.spec(dict.fromkeys(self.inputs, _UNREAD))
        return self

    @property
    def inputs(self) -> dict[str, Location]:
        """The input files, by the names of their fields in the API."""
        names = ("video", "audio", "diarization", "subtitles", "music", "background_file")
        files = {name: getattr(self, name) for name in names}
        return {**{field: location for field, location in files.items() if location is not None}, **self.more_audio}

    @property
    def options(self) -> dict[str, Any]:
        """The other fields of the API that the line sets, as in JSON."""
        files = {"out", "more_audio", *shape_of(JobSpec).files.names}
        return self.model_dump(mode="json", exclude=files, exclude_unset=True)

    def spec(self, uploads: Mapping[str, UploadedFile]) -> JobSpec:
        """Return the spec of this pair's job.

        Args:
            uploads: The files, by the names of `inputs`.

        Raises:
            OptionError: The fields do not go together.
        """
        return validated(JobSpec, {**self.options, **shape_of(JobSpec).content(uploads, {})})


_COLUMNS: Final = Pair.model_fields.keys() - {"line", "more_audio"}


def read_manifest(manifest: Path, out_dir: Path | None = None) -> list[Pair]:
    """Read and validate a whole manifest: a .csv file, or JSON lines.

    Relative input paths are relative to its folder, and relative result paths to `out_dir`, by default its folder.
    Inputs given by URLs are not checked here: a missing one fails its pair. Empty lines are skipped.

    Raises:
        InputError: The file cannot be read or has invalid lines; the message lists all of them.
    """
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{manifest}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{manifest}: cannot be read as text in UTF-8: {error}") from error
    is_csv = manifest.suffix.lower() == ".csv"
    pairs: list[Pair] = []
    complaints: list[str] = []
    line_of_out: dict[Location, int] = {}
    for number, line in _csv_rows(manifest, text) if is_csv else enumerate(text.splitlines(), start=1):
        if not line or isinstance(line, str) and not line.strip():
            continue
        try:
            parsed = Pair.model_validate_json(line) if isinstance(line, str) else Pair.model_validate(line)
            pair = _resolved(parsed, number, manifest.parent, out_dir or manifest.parent)
        except ValidationError as error:
            complaints += [f"{manifest}:{number}: {describe([detail])}" for detail in error.errors()]
            if not is_csv and number == 1 and error.errors()[0]["type"] == "json_invalid":
                complaints.append(f"{manifest}: expected JSON lines; a table with a header needs a name ending in .csv")
                break
            continue
        complaints += [f"{manifest}:{number}: {complaint}" for complaint in _missing_inputs(pair)]
        first = line_of_out.setdefault(pair.out, number)
        if first != number:
            complaints.append(f"{manifest}:{number}: out: {pair.out} is also the result of line {first}")
        pairs.append(pair)
    if not pairs and not complaints:
        complaints.append(f"{manifest}: expected at least one line")
    if complaints:
        raise InputError("\n".join(complaints))
    return pairs


def _csv_rows(manifest: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of the first line and the fields of each row; empty cells are fields that are not set.

    Commas, semicolons or tabs separate the cells. `turns` and `speakers` are JSON.

    Raises:
        InputError: A column is unknown, or the file is not CSV.
    """
    header = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(keepends=True), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        for name in rows.fieldnames or ():
            if name not in _COLUMNS and not re.fullmatch(MORE_AUDIO, name):
                raise InputError(f"{manifest}:1: unknown column {name!r}; expected {', '.join(sorted(_COLUMNS))}")
        for row in rows:
            if None in row:
                raise InputError(f"{manifest}:{rows.line_num}: has more cells than the header")
            first_line = rows.line_num - sum(cell.count("\n") for cell in row.values() if cell)
            yield first_line, {name: _cell(name, cell) for name, cell in row.items() if cell}
    except (csv.Error, json.JSONDecodeError) as error:
        raise InputError(f"{manifest}:{rows.line_num}: {error}") from error


def _cell(column: str, text: str) -> object:
    return json.loads(text) if column in ("turns", "speakers") else text


def _resolved(pair: Pair, line: int, inputs: Path, outputs: Path) -> Pair:
    paths: dict[str, object] = {name: resolve(location, inputs) for name, location in pair.inputs.items()}
    more = {name: paths.pop(name) for name in pair.more_audio}
    return pair.model_copy(update={"line": line, "out": resolve(pair.out, outputs), **paths, "more_audio": more})


def _missing_inputs(pair: Pair) -> list[str]:
    return [
        f"{name}: {location} does not exist or is not a file"
        for name, location in pair.inputs.items()
        if isinstance(location, Path) and not location.is_file()
    ]
