"""Every field of `JobSpec` can be used everywhere, or is listed here with the reason why not."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer.main

from cluster.manifest import _COLUMNS, NOT_IN_MANIFESTS
from integrations.mcp_server import LipwrightTools
from lipwright.api.forms.form_schema import form_body
from lipwright.cli.job_options import NO_OPTIONS, NOT_IN_DUB
from lipwright.cli.main import app
from lipwright.jobs.model.spec import JobSpec
from lipwright_client.calls import JobFields
from tests.unit.integrations.test_comfyui import loaded_node

_REPO = Path(__file__).parents[2]
_FEW = "few inputs, so that people and models find theirs"
_WAITS = "the job is followed until it ends"
_RARE: dict[str, str] = dict.fromkeys(
    ("background_gain_db", "loudness_lufs", "fps", "visible_label_top", "music", "music_gain_db", "max_audio_stretch")
    + ("background_id", "background_loop", "matte", "expressiveness", "motion", "visible_label", "face_image")
    + ("face_points", "language", "priority", "metadata", "action", "expression", "gaze", "head"),
    _FEW,
)


@dataclass(frozen=True)
class Surface:
    """Where options of jobs are listed: their names, and the fields that are left out, with reasons."""

    names: Callable[[], Collection[str]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


def _form() -> set[str]:
    content = form_body(JobSpec)["requestBody"]["content"]
    names = [{*each["schema"]["properties"], *each["schema"]["patternProperties"]} for each in content.values()]
    return set.intersection(*names)


def _options_of(command: str) -> set[str]:
    commands: Any = typer.main.get_command(app)
    return {str(each.name) for each in commands.commands[command].params}


def _arguments(*functions: Callable[..., object]) -> set[str]:
    return {name for function in functions for name in inspect.signature(function).parameters}


def _comfy_node() -> Any:
    with loaded_node() as module:
        return importlib.import_module(f"{module.__name__}.nodes").LipwrightSpeak


def _documented() -> set[str]:
    text = (_REPO / "docs" / "api.md").read_text(encoding="utf-8")
    rows = text.partition("| field of a job |")[2].partition("\n\n")[0].splitlines()
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.partition("|")[2].partition("|")[0])}


SURFACES = {
    "form": Surface(_form, renamed={"more_audio": "^audio_[A-Za-z0-9_-]{1,32}(?<!_url)$"}),
    "speak": Surface(lambda: _options_of("speak"), NO_OPTIONS),
    "dub": Surface(
        lambda: _options_of("dub"), NOT_IN_DUB, {"background_gain_db": "ambience_gain", "idle_mouths": "closed_mouths"}
    ),
    "client": Surface(lambda: get_type_hints(JobFields)),
    "mcp": Surface(
        lambda: _arguments(LipwrightTools.speak, LipwrightTools.dub),
        {name: why for name, why in _RARE.items() if name not in ("background_gain_db", "action")}
        | {"more_audio": "turns name files", "callback_url": _WAITS, "review": _WAITS}
        | dict.fromkeys(("loop", "size", "idle_mouths"), _FEW),
    ),
    "comfyui": Surface(
        lambda: _arguments(_comfy_node().execute),
        _RARE
        | {"callback_url": _WAITS, "review": _WAITS, "format": "ComfyUI's videos are MP4"}
        | {"text": "of turns and subtitles", "voice": "of turns and speakers"}
        | dict.fromkeys(("idle_mouths", "subtitles_output"), _FEW),
        {"more_audio": "audio_2", "fps": "fps of the result"},  # its `fps` is the rate of batches of images
    ),
    "manifest": Surface(lambda: _COLUMNS, NOT_IN_MANIFESTS),
    "docs/api.md": Surface(_documented, renamed={"more_audio": "audio_NAME"}),
}


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_each_field_of_a_job_is_there_or_left_out_for_a_reason(surface: Surface) -> None:
    names = set(surface.names())
    fields = {surface.renamed.get(name, name): name for name in JobSpec.model_fields}
    missing = {field for name, field in fields.items() if name not in names}
    assert missing == surface.left_out.keys()


def _choices(annotation: Any) -> list[object]:
    """The values of a choice, without None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _choices(part)]


def test_choices_of_mcp_and_comfyui_are_those_of_the_job() -> None:
    of_job = {name: _choices(field.annotation) for name, field in JobSpec.model_fields.items()}
    hints = get_type_hints(LipwrightTools.speak) | get_type_hints(LipwrightTools.dub)
    for name in ("format", "quality", "subtitles_output"):
        assert _choices(hints[name]) == of_job[name]
    inputs = {each.id: each for each in _comfy_node().define_schema().inputs}
    for name in ("loop", "quality"):
        assert inputs[name].options == of_job[name]
