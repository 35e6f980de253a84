"""`lipwright dub`: the people in a video speak its subtitles."""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lipwright.cli.draft_file import draft_text, long_texts, print_result, voices_of
from lipwright.cli.job_options import local_files, with_dub_options
from lipwright.cli.local_service import LocalDataDir, OptionalServer, service_at
from lipwright.cli.run_job import VideoOut, check_paths, check_writable, make_job, save_video
from lipwright.cli.terminal import UsageError, interrupt_on_sigterm, service
from lipwright_client import ClientError, Job, Lipwright
from lipwright_client.calls import JobFields


@with_dub_options
def dub(
    fields: JobFields,
    video: Annotated[str, typer.Argument(help="The video (file or URL).")],
    out: VideoOut,
    language: Annotated[
        str | None,
        typer.Option(
            help="Language of the speech, such as de or German, in which voices are chosen. Without --subtitles, what "
            "is said in the video is transcribed, translated into it and spoken, by the servers and voices that the "
            "operator has configured."
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
            help="Voice of a speaker, or of all others. Default: the service's; with --language, another voice of the "
            "language for each speaker. Can be repeated.",
        ),
    ] = None,
    ambience: Annotated[
        bool, typer.Option(help="Keep the video's own sound, including the original voices, softly under the speech.")
    ] = True,
    ambience_gain: Annotated[
        float, typer.Option(metavar="DB", help="Its gain in dB; it is lowered further while somebody speaks.")
    ] = -12.0,
    closed_mouths: Annotated[bool, typer.Option("--closed-mouths", help="Close mouths between the subtitles.")] = False,
    review: Annotated[
        bool,
        typer.Option(
            "--review",
            help="Only speak the texts, and write them to an SRT file next to OUT (film.review.srt). `lipwright jobs "
            "approve` then renders the video, with the file as you have changed it.",
        ),
    ] = False,
    server: OptionalServer = None,
    data_dir: LocalDataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Dub VIDEO: the people in it speak the subtitles, each in its time.

    Speech that is too long for its time is played up to 1.35 times faster; what still does not fit is cut and listed.
    Without --server, uses the service running in the data folder or starts one for this job.
    """
    interrupt_on_sigterm()
    if "subtitles" not in fields and language is None:
        raise UsageError("input_invalid", "pass --subtitles, --language or both.")
    fields = _with_picture_of_video(fields)
    fields |= {"language": language, "translate_to": None if "subtitles" in fields else language}
    fields |= {"background_gain_db": ambience_gain if ambience else None}
    fields |= {"idle_mouths": "closed" if closed_mouths else None, "review": review or None}
    fields["speakers"], fields["voice"] = _parse_speakers(face or (), voice or ())
    check_paths(local_files({"video": video, **fields}), out)
    draft = out.with_suffix(".review.srt") if review else None
    if draft is not None:
        _check_draft(draft)
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        # The speakers of an avatar are those who speak at the same times in its video.
        fields["avatar_id"] = client.avatars.create(video=video, keep=False).id
        job = _make_job(client, out, fields)
        if draft is None:
            print_result(job, out, save_video(client, job, out), as_json)
        else:
            where = {"--subtitles": draft, "--out": out, "--server": server, "--data-dir": data_dir}
            options = [each for name, value in where.items() if value for each in (name, str(value))]
            approve = shlex.join(["lipwright", "jobs", "approve", job.id, *options])
            _save_draft(client, job, draft, approve, as_json)


def _with_picture_of_video(fields: JobFields) -> JobFields:
    """Return the fields with the settings that a saved avatar of the same video may have set otherwise."""
    own: JobFields = {"expressiveness": 1, "motion": 1}
    if not fields.keys() & {"background", "background_file", "background_id"}:
        own["background"] = "source"
    return {**own, **fields}


def _make_job(client: Lipwright, out: Path, fields: JobFields) -> Job:
    """Make the job; of a video without sound, without ambience."""
    try:
        return make_job(client, out, fields)
    except ClientError as error:
        if "background_gain_db: the video has no sound" not in error.detail:
            raise
    print("The video has no sound to keep under the speech.", file=sys.stderr)
    return make_job(client, out, {**fields, "background_gain_db": None})


def _save_draft(client: Lipwright, job: Job, draft: Path, approve: str, as_json: bool) -> None:
    """Write the texts of a job in review to a file; print what is too long, and the command that renders the job."""
    turns = client.jobs.turns(job.id)
    draft.write_text(draft_text(turns.turns), encoding="utf-8")
    if as_json:
        print(json.dumps({**job.raw, "review": str(draft), "turns": turns.raw["turns"]}, indent=2))
        return
    num_texts = sum(turn.text is not None for turn in turns.turns)
    lines = [f"{draft}: {num_texts} texts", *voices_of(job), *long_texts(turns.turns)]
    print("\n".join([*lines, f"Change the file as you like, then render it: {approve}"]), flush=True)


def _check_draft(draft: Path) -> None:
    """Raise UsageError if the file cannot be written, or exists: it may be an earlier draft with changes."""
    check_writable(draft)
    if draft.exists():
        raise UsageError("input_invalid", f"--review: {draft} exists. Remove it, or choose another --out.")


def _parse_speakers(faces: Sequence[str], voices: Sequence[str]) -> tuple[dict[str, dict[str, str]] | None, str | None]:
    """Return the faces and voices of speakers, and the voice of all others."""
    speakers: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for option, choices in (("face", faces), ("voice", voices)):
        for text in choices:
            name, separator, choice = text.rpartition("=")
            if not choice or (not name and (separator or option == "face")):
                expected = "NAME=FACE" if option == "face" else "VOICE or NAME=VOICE"
                raise UsageError("input_invalid", f"--{option}: expected {expected}, found {text!r}.")
            speakers[name][option] = choice
    other_voice = speakers.pop("", {}).get("voice")
    return speakers or None, other_voice
