"""`lipwright dub`: the people in a video speak its subtitles."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from cli.local_service import OptionalServer, service_at
from cli.run_job import check_paths, run_job
from cli.terminal import UsageError, interrupt_on_sigterm, service
from lipwright_client import Avatar, Job, Lipwright
from lipwright_client.calls import JobFields
from media.subtitles.cues import read_cues

_AMBIENCE_DB: Final = -12.0
_MAX_SEARCH_S: Final = 24 * 3600.0


def dub(
    video: Annotated[str, typer.Argument(help="The video (file or URL).")],
    out: Annotated[Path, typer.Option(help="Output file: .mp4, .webm or .mov, which also chooses the format.")],
    subtitles: Annotated[
        Path | None, typer.Option(help="What is said: an SRT or WebVTT file in the new language.")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Instead of --subtitles: transcribe the video and translate it into this language, if the service is "
            "configured for that. Each speaker without --voice gets another voice of the language."
        ),
    ] = None,
    face: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FACE",
            help="Face of a speaker of the subtitles, such as person:0 (see `lipwright avatars people`) or offscreen. "
            "Default: who speaks at the same times in the video. Can be repeated.",
        ),
    ] = None,
    voice: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]VOICE",
            help="Voice of a speaker, or of all others. Default: the service's. Can be repeated.",
        ),
    ] = None,
    ambience: Annotated[
        bool, typer.Option(help="Keep the video's own sound, including the original voices, softly under the speech.")
    ] = True,
    ambience_gain: Annotated[
        float, typer.Option(metavar="DB", help="Its gain in dB; it is lowered further while somebody speaks.")
    ] = _AMBIENCE_DB,
    closed_mouths: Annotated[bool, typer.Option("--closed-mouths", help="Close mouths between the subtitles.")] = False,
    show: Annotated[
        str | None,
        typer.Option(help="Show the subtitles: as a text track, or burnt into the picture.", metavar="WHERE"),
    ] = None,
    server: OptionalServer = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the local service.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Dub VIDEO: the people in it speak the subtitles, each in its time.

    Speech that is too long for its time is played up to 1.35 times faster; what still does not fit is cut and listed.
    Without --server, uses the service running in the data folder or starts one for this job.
    """
    interrupt_on_sigterm()
    if (subtitles is None) == (language is None):
        raise UsageError("input_invalid", "pass either --subtitles or --language.")
    files = {"subtitles": subtitles, "video": None if "://" in video else Path(video)}
    check_paths({name: path for name, path in files.items() if path is not None}, out)
    voices = dict(_named(text, "voice") for text in voice or ())
    speakers: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for key, choices in (("face", dict(_named(text, "face") for text in face or ())), ("voice", voices)):
        for name, choice in choices.items():
            if name:
                speakers[name][key] = choice
    fields: JobFields = {
        "speakers": speakers or None,
        "voice": voices.get(""),
        "background_gain_db": ambience_gain if ambience else None,
        "idle_mouths": "closed" if closed_mouths else None,
        "subtitles_output": show,
        "language": language,
        # The same video may be a saved avatar with other settings.
        "background": "source",
        "expressiveness": 1,
        "motion": 1,
    }
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        content = _translated(client, video, language) if subtitles is None else subtitles.read_bytes()
        fields["subtitles"] = ("subtitles.vtt" if subtitles is None else subtitles.name, content)
        num_texts = len(read_cues(content, speakers))
        avatar = _searched(client, video)
        fields["avatar_id"] = avatar.id
        if ambience and avatar.info is not None and avatar.info.has_audio is False:
            print("The video has no sound to keep under the speech.", file=sys.stderr)
            fields["background_gain_db"] = None
        job, num_bytes = run_job(client, out, fields, request=f"speaking {num_texts} texts")
    if as_json:
        print(json.dumps({**job.raw, "out": str(out), "num_bytes": num_bytes}, indent=2))
        return
    done = f"{out}: {job.num_frames} frames, {num_bytes} bytes"
    print("\n".join([done, *_voices(job), *_cut_texts(job)]), flush=True)


def _translated(client: Lipwright, video: str, language: str | None) -> bytes:
    """Return subtitles of a video in another language."""
    with Console(stderr=True).status("Transcribing and translating ..."):
        return client.create_subtitles(video, translate_to=language, kind="vtt").encode()


def _searched(client: Lipwright, video: str) -> Avatar:
    """Return an analysed avatar in whose video the people are known."""
    with Console(stderr=True).status("Looking for the people in the video ..."):
        avatar = client.avatars.create(video=video, keep=False)
        client.avatars.people(avatar.id, timeout_s=_MAX_SEARCH_S)
        return client.avatars.wait(avatar.id, timeout_s=_MAX_SEARCH_S)


def _named(text: str, option: str) -> tuple[str, str]:
    """Return the name and the choice of NAME=CHOICE; the name is empty for a voice of all others."""
    name, separator, choice = text.rpartition("=")
    if not choice or (not name and (separator or option == "face")):
        expected = "NAME=FACE" if option == "face" else "VOICE or NAME=VOICE"
        raise UsageError("input_invalid", f"--{option}: expected {expected}, found {text!r}.")
    return name, choice


def _voices(job: Job) -> Sequence[str]:
    """Return a line that says which voice speaks for whom."""
    turns = job.raw.get("options", {}).get("turns") or ()
    speakers = [turn.get("speaker") or turn.get("face") or "everybody" for turn in turns]
    voices = {name: turn.get("voice") or "the default voice" for name, turn in zip(speakers, turns, strict=True)}
    return ["Voices: " + ", ".join(f"{name}={voice}" for name, voice in voices.items())] if voices else []


def _cut_texts(job: Job) -> Sequence[str]:
    """Return a line for each text that does not fit into its time."""
    cuts = (job.report or {}).get("output", {}).get("cut_texts", ())
    return [f"Cut by {cut['cut_seconds']:.1f} s at {cut['start_seconds']:.1f} s: {cut['text']}" for cut in cuts]
