"""`lipwright dub`: the people in a video speak its subtitles."""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from cli.draft_file import draft_text
from cli.local_service import OptionalServer, service_at
from cli.run_job import check_paths, check_writable, make_job, save_video
from cli.terminal import UsageError, interrupt_on_sigterm, service
from cli.turn_table import long_texts, print_result, voices_of
from lipwright_client import ClientError, Job, Lipwright, Turns
from lipwright_client.calls import JobFields

_AMBIENCE_DB: Final = -12.0


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
    review: Annotated[
        bool,
        typer.Option(
            "--review",
            help="Only speak the texts, and write them to an SRT file next to OUT (film.review.srt). `lipwright jobs "
            "approve` then renders the video, with the file as you have changed it.",
        ),
    ] = False,
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
    draft = out.with_suffix(".review.srt") if review else None
    if draft is not None:
        _check_draft(draft)
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
        "review": review or None,
        # The same video may be a saved avatar with other settings.
        "background": "source",
        "expressiveness": 1,
        "motion": 1,
    }
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        content = _translated(client, video, language) if subtitles is None else subtitles.read_bytes()
        fields["subtitles"] = ("subtitles.vtt" if subtitles is None else subtitles.name, content)
        # The speakers of an avatar are those who speak at the same times in its video.
        fields["avatar_id"] = client.avatars.create(video=video, keep=False).id
        job = _make_job(client, out, fields)
        if draft is not None:
            turns = client.jobs.turns(job.id)
            draft.write_text(draft_text(turns.turns), encoding="utf-8")
        else:
            num_bytes = save_video(client, job, out)
    if draft is not None:
        where = {"--server": server, "--data-dir": data_dir}
        options = "".join(f" {name} {shlex.quote(str(value))}" for name, value in where.items() if value)
        _print_draft(job, turns, draft, out, options, as_json)
    else:
        print_result(job, out, num_bytes, as_json)


def _make_job(client: Lipwright, out: Path, fields: JobFields) -> Job:
    """Make the job; of a video without sound, without ambience."""
    try:
        return make_job(client, out, fields)
    except ClientError as error:
        if "background_gain_db: the video has no sound" not in error.detail:
            raise
    print("The video has no sound to keep under the speech.", file=sys.stderr)
    return make_job(client, out, {**fields, "background_gain_db": None})


def _print_draft(job: Job, turns: Turns, draft: Path, out: Path, options: str, as_json: bool) -> None:
    """Print what is too long, and the next command; `options` choose the service."""
    if as_json:
        print(json.dumps({**job.raw, "review": str(draft), "turns": turns.raw["turns"]}, indent=2))
        return
    num_texts = sum(turn.text is not None for turn in turns.turns)
    approve = f"lipwright jobs approve {job.id} --subtitles {shlex.quote(str(draft))} --out {shlex.quote(str(out))}"
    lines = [f"{draft}: {num_texts} texts", *voices_of(job), *long_texts(turns.turns)]
    print("\n".join([*lines, f"Change the file as you like, then render it: {approve}{options}"]), flush=True)


def _translated(client: Lipwright, video: str, language: str | None) -> bytes:
    """Return subtitles of a video in another language."""
    with Console(stderr=True).status("Transcribing and translating ..."):
        return client.create_subtitles(video, translate_to=language, kind="vtt").encode()


def _check_draft(draft: Path) -> None:
    """Raise UsageError if the file cannot be written, or exists: it may be an earlier draft with changes."""
    check_writable(draft)
    if draft.exists():
        raise UsageError("input_invalid", f"--review: {draft} exists. Remove it, or choose another --out.")


def _named(text: str, option: str) -> tuple[str, str]:
    """Return the name and the choice of NAME=CHOICE; the name is empty for a voice of all others."""
    name, separator, choice = text.rpartition("=")
    if not choice or (not name and (separator or option == "face")):
        expected = "NAME=FACE" if option == "face" else "VOICE or NAME=VOICE"
        raise UsageError("input_invalid", f"--{option}: expected {expected}, found {text!r}.")
    return name, choice
