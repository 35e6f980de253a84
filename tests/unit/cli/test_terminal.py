"""Error messages of the service, worded for the command line."""

from __future__ import annotations

import pytest
import typer

from cli.main import app
from cli.terminal import Invocation, names_of


def _invocation(*path: str, arguments: tuple[str, ...] = (), server: str = "") -> Invocation:
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    return Invocation(names_of(command.params), arguments, server)


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("speak", "audio: expected speech.", "--audio: expected speech."),
        ("speak", "face: a; loop: b", "--face: a; --loop: b"),
        ("speak", "background_gain_db: the video has no sound.", "--background-gain: the video has no sound."),
        ("speak", "v.mp4: expected a face, found none.", "v.mp4: expected a face, found none."),
        ("speak", "No face was found in the video.", "No face was found in the video."),
        ("dub", "background_gain_db: the video has no sound.", "--ambience-gain: the video has no sound."),
        ("dub", "video: it has no frames.", "VIDEO: it has no frames."),
        ("dub", "speakers: there is no speaker 'Eve'.", "--face: there is no speaker 'Eve'."),
        ("dub", "turns[2].end: the video ends at 4 s.", "cue 3: the video ends at 4 s."),
        ("live", "avatar_id: there is none.", "AVATAR_ID: there is none."),
        ("dub", "subtitles_output: must be 'track'", "--show: must be 'track'"),
        (
            "avatars add",
            "matte needs background, background_file or background_id.",
            "--matte needs --background or --background-id.",
        ),
        (
            "avatars add",
            "There is no background 'x'. Send it with POST /v1/backgrounds.",
            "There is no background 'x'. Pass the file with --background.",
        ),
        ("jobs show", "Poll GET /v1/jobs/4f instead.", "Poll `lipwright jobs show 4f` instead."),
    ],
)
def test_worded_names_options_and_commands(command: str, message: str, expected: str) -> None:
    assert _invocation(*command.split()).worded(message) == expected


def test_worded_command_gets_the_server() -> None:
    message = "GET /v1/voices lists the installed voices."
    worded = _invocation("speak", server="http://box:8100").worded(message)
    assert worded == "`lipwright voices list --server http://box:8100` lists the installed voices."


@pytest.mark.parametrize("arguments", [("--data-dir", "/my data"), ("--data-dir=/my data",)])
def test_worded_command_gets_the_data_folder(arguments: tuple[str, ...]) -> None:
    worded = _invocation("speak", arguments=arguments, server="http://box:8100").worded("`lipwright keys add NAME` it")
    assert worded == "`lipwright keys add NAME --data-dir '/my data'` it"
