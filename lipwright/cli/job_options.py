"""Command-line options that are fields of a job, made from `JobSpec`."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from lipwright.cli.terminal import OPTION_NAMES, with_commands
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.spec import JobSpec

_SEVERAL: Final = "several people speak with `lipwright dub` or a batch"
NO_OPTIONS: Final[Mapping[str, str]] = {
    "background_file": "--background is a file, too",
    "format": "the suffix of --out is the format",
    "callback_url": "the command waits for the job",
    "metadata": "for programs that find their jobs by it",
    "turns": _SEVERAL,
    "more_audio": _SEVERAL,
    "diarization": _SEVERAL,
    "speakers": _SEVERAL,
    "subtitles": _SEVERAL,
    "translate_to": _SEVERAL,
    "idle_mouths": _SEVERAL,
    "subtitles_output": _SEVERAL,
    "review": _SEVERAL,
}
"""Fields of `JobSpec` that are no options of `lipwright speak`, and why."""
_BY_TEXTS: Final = "the subtitles or the translation are the speech"
_BY_VIDEO: Final = "the video is the source, and its length that of the result"
NOT_IN_DUB: Final[Mapping[str, str]] = {
    "audio": _BY_TEXTS,
    "text": _BY_TEXTS,
    "turns": _BY_TEXTS,
    "more_audio": _BY_TEXTS,
    "diarization": _BY_TEXTS,
    "translate_to": "--language",
    "avatar_id": _BY_VIDEO,
    "face_image": _BY_VIDEO,
    "face_points": "only for still pictures, and a dub is of a video",
    "loop": _BY_VIDEO,
    "action": _BY_VIDEO,
    "max_audio_stretch": _BY_VIDEO,
    "speakers": "--face and --voice",
    **{name: NO_OPTIONS[name] for name in ("background_file", "format", "callback_url", "metadata")},
}
"""Fields of `JobSpec` that are no options of `lipwright dub`, and why."""
OWN_IN_DUB: Final = ("video", "language", "face", "voice", "background_gain_db", "idle_mouths", "review")
"""Fields for which `lipwright dub` declares options of its own."""
_FIRST: Final = ("video", "avatar_id", "audio", "text", "voice", "engine", "face", "face_image", "face_points")
"""The options that come first; the others follow as they are declared."""
_UNITS: Final = {"_db": "DB", "_lufs": "LUFS"}
_VALUES: Final = frozenset({"loop"})
"""Fields that have the name of a value."""


def with_job_options(command: Callable[..., None], names: Collection[str] | None = None) -> Callable[..., None]:
    """Give a command options for fields of `JobSpec`; it gets those that were passed as its argument `fields`.

    Args:
        command: The command.
        names: The fields; None for all that `lipwright speak` has.
    """
    own = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    names = _names() if names is None else names

    @functools.wraps(command)
    def run(**values: Any) -> None:
        sent = {name: values.pop(name) for name in names}
        fields = {name: value for name, value in sent.items() if value is not None and value is not False}
        if "://" in (background := str(fields.get("background", ""))) or Path(background).is_file():
            fields["background_file"] = fields.pop("background")
        command(fields=fields, **values)

    parameters = [
        *(_parameter(name, JobSpec.model_fields[name]) for name in names),
        *(each.replace(annotation=hints[name]) for name, each in own.parameters.items() if name != "fields"),
    ]
    ordered = sorted(parameters, key=lambda each: each.default is not inspect.Parameter.empty)
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in ordered}
    del run.__wrapped__
    return run


def with_dub_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `lipwright dub` options for the fields of `JobSpec` that it does not declare, as `with_job_options`."""
    first = ("subtitles", "subtitles_output")
    left_out = {*first, *NOT_IN_DUB, *OWN_IN_DUB}
    return with_job_options(command, [*first, *(name for name in JobSpec.model_fields if name not in left_out)])


def local_files(fields: Mapping[str, object]) -> dict[str, Path]:
    """Return the files of a job that are not URLs, by the names of their fields."""
    files = {name: str(value) for name, value in fields.items() if name in FILE_FIELDS and value}
    return {name: Path(value) for name, value in files.items() if "://" not in value}


def _names() -> list[str]:
    return [*_FIRST, *(name for name in JobSpec.model_fields if name not in (*_FIRST, *NO_OPTIONS))]


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter of a command for a field of a job."""
    kind = _kind(field)
    bounds = {"min": "ge", "max": "le"} if kind in (int, float) else {}
    settings = typer.Option(
        _option_of(name),
        help=_help(name, field, kind),
        metavar=next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), None),
        show_default=False,
        **{name: getattr(each, of) for name, of in bounds.items() for each in field.metadata if hasattr(each, of)},
    )
    plain = kind if kind in (bool, int, float) else str
    annotation: Any = Annotated[bool if plain is bool else Union[plain, None], settings]  # noqa: UP007 - not known here
    default = False if plain is bool else None
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _kind(field: FieldInfo) -> object:
    """Return the type of a field, without None."""
    kind: object = field.annotation
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    return kind


def _help(name: str, field: FieldInfo, kind: object) -> str:
    """Return the description of a field in the words of the command line, with its default."""
    text = with_commands(field.description or "")
    options = JobSpec.model_fields.keys() - (NO_OPTIONS.keys() - OPTION_NAMES.keys()) - _VALUES
    named = "|".join(options)
    text = re.sub(rf"`({named})`", lambda match: _option_of(match[1]), text).replace("`", "")
    if kind is UploadedFile or name == "background":
        text = f"{text} File or URL." if kind is UploadedFile else f"{text} Can be a file or URL."
    is_plain = isinstance(field.default, str | int | float) and kind is not bool
    # Escaped, because Typer reads what is in brackets as markup.
    return escape(f"{text} Default: {field.default}." if is_plain and "Default" not in text else text)


def _option_of(name: str) -> str:
    return OPTION_NAMES.get(name, f"--{name.replace('_', '-')}")


FILE_FIELDS: Final = frozenset(name for name, field in JobSpec.model_fields.items() if _kind(field) is UploadedFile)
"""Fields that are files or URLs."""
