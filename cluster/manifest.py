"""The manifest of a batch: one pair of a face and speech, by path or URL, per JSON line or row of a CSV file."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final, Self, cast
from uuid import uuid4

from lipwright.api.forms.form_parts import MORE_AUDIO
from lipwright.api.forms.form_schema import accepted_fields, validated
from lipwright.errors import InputError, OptionError
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.spec import JobSpec
from lipwright.media.output.formats import FORMATS

Location = Path | str
"""A path, or a URL with a scheme."""


def resolve(text: str | Path, folder: Path) -> Location:
    """Return a URL unchanged, and a path relative to `folder` as an absolute path."""
    return text if is_url(text) else (folder / text).resolve()


def is_url(location: Location) -> bool:
    """Return whether the location is a URL."""
    return "://" in str(location)


def file_name(location: Location) -> str:
    """Return the last part of the name."""
    return str(location).rstrip("/").rpartition("/")[2]


def open_location(location: Location) -> BinaryIO:
    """Open a file for reading; the caller closes it.

    Raises:
        InputError: The URL scheme is not supported.
        OSError: The file cannot be read.
    """
    if isinstance(location, Path):
        return location.open("rb")
    return cast(BinaryIO, _file_system(location).open(location, "rb"))


def exists(location: Location) -> bool:
    """Return whether the file exists; InputError if the URL scheme is not supported."""
    return location.is_file() if isinstance(location, Path) else bool(_file_system(location).exists(location))


def copy_atomic(source: Path, out: Location) -> None:
    """Copy a file so that `out` is never partially written.

    Raises:
        InputError: The URL scheme is not supported.
        OSError: The file cannot be written.
    """
    if not isinstance(out, Path):
        _file_system(out).put_file(str(source), out)  # object stores make an object visible when it is complete
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid4().hex}.part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _file_system(url: str):  # type: ignore[no-untyped-def]  # fsspec has no types
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: unsupported URL scheme: {error}") from error


NOT_IN_MANIFESTS: Final[Mapping[str, str]] = {
    "avatar_id": "a line names its video; the analysis of a video is cached",
    "more_audio": "its files are fields of their own, `audio_NAME`",
    "review": "a batch does not wait for approval",
    "callback_url": "the batch reports its pairs",
    "priority": "pairs are rendered in order of the manifest",
}
"""Fields of `JobSpec` that a line cannot have, and why."""
_ACCEPTED: Final = accepted_fields(JobSpec)
_UNREAD: Final = UploadedFile(key="", sha256="", num_bytes=0, label="")
"""Stands for each file while a line is validated."""
_COLUMNS: Final = {"out", *JobSpec.model_fields} - NOT_IN_MANIFESTS.keys()


@dataclass(frozen=True)
class Pair:
    """One line: a face, speech, the result and options. Files are paths or URLs such as s3://bucket/key.

    Attributes:
        out: The result.
        inputs: The input files, by the names of their fields in the API.
        asked: The job, with stand-ins for the files.
        line: Line number in the manifest, from 1.
    """

    out: Location
    inputs: Mapping[str, Location]
    asked: JobSpec
    line: int = 0

    @classmethod
    def of(cls, line: object, number: int = 0) -> Self:
        """Return the pair of a line, whose fields are those of the API and `out`.

        Raises:
            InputError: The line is invalid. What depends on the content of files is not checked.
        """
        if not isinstance(line, Mapping):
            raise OptionError("expected a JSON object")
        if unknown := sorted(NOT_IN_MANIFESTS.keys() & line.keys()):
            raise OptionError(f"{unknown[0]}: unknown field")
        fields = {name: value for name, value in line.items() if value is not None}
        out = _location("out", fields.pop("out", None))
        inputs = {name: _location(name, value) for name, value in fields.items() if name in _ACCEPTED.files}
        others = {name: value for name, value in fields.items() if name not in inputs}
        if (suffix := PurePath(str(out)).suffix.removeprefix(".")) in FORMATS:
            others.setdefault("format", suffix)
        asked = validated(JobSpec, {**others, **_ACCEPTED.content(dict.fromkeys(inputs, _UNREAD), {})})
        if not str(out).endswith(f".{asked.format}"):
            raise OptionError(f"out: expected a name that ends in .{asked.format}")
        return cls(out, inputs, asked, number)

    @property
    def more_audio(self) -> Mapping[str, Location]:
        """Further audio files, to which turns refer."""
        return {name: location for name, location in self.inputs.items() if name not in _ACCEPTED.files.names}

    @property
    def options(self) -> dict[str, Any]:
        """The fields that are not files, as in JSON."""
        return self.asked.model_dump(mode="json", exclude={"more_audio", *_ACCEPTED.files.names}, exclude_unset=True)


def _location(name: str, value: object) -> Location:
    if value is None:
        raise OptionError(f"{name}: is required")
    if not isinstance(value, str | Path) or not str(value):
        raise OptionError(f"{name}: expected a path or a URL, found {value!r}")
    return value if is_url(value) else Path(value)


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
    for number, line in _csv_rows(manifest, text) if is_csv else enumerate(text.split("\n"), start=1):
        if not line or isinstance(line, str) and not line.strip():
            continue
        try:
            pair = Pair.of(json.loads(line) if isinstance(line, str) else line, number)
        except (json.JSONDecodeError, RecursionError) as error:
            complaints.append(f"{manifest}:{number}: Invalid JSON: {error}")
            if number == 1:
                complaints.append(f"{manifest}: expected JSON lines; a table with a header needs a name ending in .csv")
                break
            continue
        except InputError as error:
            complaints.append(f"{manifest}:{number}: {error}")
            continue
        pair = _resolve(pair, manifest.parent, out_dir or manifest.parent)
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

    Commas, semicolons or tabs separate the cells. Lists and objects, such as `turns`, are JSON.

    Raises:
        InputError: A column is unknown, or the file is not CSV.
    """
    header = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
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
    return json.loads(text) if column in _ACCEPTED.objects else text


def _resolve(pair: Pair, inputs: Path, outputs: Path) -> Pair:
    paths = {name: resolve(location, inputs) for name, location in pair.inputs.items()}
    return replace(pair, out=resolve(pair.out, outputs), inputs=paths)


def _missing_inputs(pair: Pair) -> list[str]:
    return [
        f"{name}: {location} does not exist or is not a file"
        for name, location in pair.inputs.items()
        if isinstance(location, Path) and not location.is_file()
    ]
