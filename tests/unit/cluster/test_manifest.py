"""A manifest is checked whole, before any work, and each complaint names its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.manifest import read_manifest
from errors import InputError


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "a.wav", "b.wav", "a.rttm"):
        (folder / name).write_bytes(b"content is not read here")
    return folder


def _write(folder: Path, *lines: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


GOOD = {"video": "a.mp4", "audio": "a.wav", "out": "a_out.mp4"}


def test_read_manifest_resolves_paths_and_counts_lines(inputs: Path, tmp_path: Path) -> None:
    manifest = _write(inputs, GOOD, "", GOOD | {"out": "b/b.mp4", "loop": "hold"}, TEXT)
    first, second, text = read_manifest(manifest, tmp_path / "results")
    assert (first.line, second.line) == (1, 3)
    assert first.inputs["video"] == inputs / "a.mp4"
    assert second.out == tmp_path / "results" / "b" / "b.mp4"
    assert second.options == {"loop": "hold"}
    assert read_manifest(manifest)[0].out == inputs / "a_out.mp4"
    assert (first.inputs["audio"], first.options) == (inputs / "a.wav", {})
    assert (list(text.inputs), text.options) == (["video"], {"text": TEXT["text"], "voice": "af_heart"})


TEXT = {"video": "a.mp4", "text": "Good morning.\n早上好。", "voice": "af_heart", "out": "text.mp4"}


TURNS = {
    "video": "a.mp4",
    "audio": "a.wav",
    "audio_bob": "b.wav",
    "turns": [{"start": 0, "face": "0"}, {"start": 1.5, "face": "1", "audio": "audio_bob"}],
    "out": "turns.mp4",
}


def test_read_manifest_turns_and_diarization(inputs: Path) -> None:
    diarized = GOOD | {"diarization": "a.rttm", "speakers": {"A": {"face": "1"}}, "out": "diarized.mp4"}
    turns, diarization = read_manifest(_write(inputs, TURNS, diarized))
    assert turns.inputs == {field: inputs / TURNS[field] for field in ("video", "audio", "audio_bob")}  # type: ignore[operator]
    assert turns.options == {"turns": TURNS["turns"]}
    assert diarization.inputs["diarization"] == inputs / "a.rttm"
    assert diarization.options == {"speakers": {"A": {"face": "1"}}}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "Invalid JSON"),
        ({"video": "a.mp4", "audio": "a.wav"}, "out: is required"),
        (GOOD | {"vidoe": "b.mp4"}, "vidoe: unknown field"),
        (GOOD | {"audio": "missing.wav"}, "does not exist or is not a file"),
        (GOOD | {"text": "Good morning."}, "send audio or text, not both"),
        ({"video": "a.mp4", "out": "b.mp4"}, "audio or text is required"),
        (TEXT | {"video": "missing.mp4"}, "does not exist or is not a file"),
        (TEXT | {"text": "x" * 32_769}, "text: must have at most 32768 characters"),
        (TEXT | {"voice": ""}, "voice: must have at least 1 character"),
        (GOOD | {"out": "a.avi"}, "expected a name that ends in .mp4"),
        (TURNS | {"audio_bob": "missing.wav"}, "audio_bob: "),
        (TURNS | {"audio_bob": 3}, "audio_bob: expected a path or a URL, found 3"),
        (TURNS | {"more_audio": {"audio_bob": "b.wav"}}, "more_audio: unknown field"),
        (TURNS | {"turns": None}, "audio_bob needs turns that refer to it"),
        (TURNS | {"turns": []}, "turns: must have at least 1 item"),
        (TURNS | {"turns": [{"start": -1}]}, "turns.0.start: must be greater than or equal to 0"),
        (
            TURNS | {"turns": [{"start": 0, "text": "Hi.", "audio": "audio_bob"}]},
            "turns.0: send text or audio, not both",
        ),
        (TURNS | {"loop": "hold"}, "loop: a result with turns has the length of its video"),
        (TURNS | {"subtitles": "a.rttm"}, "send turns or subtitles, not both"),
        ({"video": "a.mp4", "diarization": "a.rttm", "out": "b.mp4"}, "diarization needs audio"),
        (GOOD | {"speakers": {"A": {"face": "1"}}}, "speakers needs diarization, subtitles or translate_to"),
        (GOOD | {"review": True}, "review: unknown field"),
        (
            GOOD | {"loop": "backwards"},
            "loop: must be 'pingpong', 'loop', 'hold', 'cut', 'source', 'retime' or 'natural'",
        ),
    ],
)
def test_read_manifest_invalid_line_is_named(inputs: Path, line: object, complaint: str) -> None:
    manifest = _write(inputs, GOOD | {"out": "first.mp4"}, line)
    with pytest.raises(InputError) as raised:
        read_manifest(manifest)
    assert str(raised.value).startswith(f"{manifest}:2: ")
    assert complaint in str(raised.value)


def test_read_manifest_reports_every_bad_line(inputs: Path) -> None:
    manifest = _write(inputs, "[]", GOOD, GOOD)
    with pytest.raises(InputError) as raised:
        read_manifest(manifest)
    assert [line.removeprefix(f"{manifest}:")[0] for line in str(raised.value).splitlines()] == ["1", "3"]
    with pytest.raises(InputError, match="at least one line"):
        read_manifest(_write(inputs, ""))


def _csv(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text.encode("utf-8-sig"))  # as spreadsheets write it
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_manifest_csv_rows_are_pairs(inputs: Path, delimiter: str) -> None:
    rows = [
        ("video", "audio", "text", "out", "expressiveness", "visible_label", "audio_bob", "turns"),
        ("a.mp4", "", '"Good\nmorning"', "one.mp4", "1.5", "true", "", ""),
        ("", "", "", "", "", "", "", ""),
        ("a.mp4", "", "", "two.mp4", "", "", "b.wav", '"[{""start"": 0, ""audio"": ""audio_bob""}]"'),
    ]
    first, second = read_manifest(_csv(inputs, "\n".join(delimiter.join(row) for row in rows)))
    asked = first.asked
    assert (first.line, asked.text, asked.expressiveness, asked.visible_label) == (2, "Good\nmorning", 1.5, True)
    assert "loop" not in first.options
    assert (second.line, second.more_audio) == (5, {"audio_bob": inputs / "b.wav"})
    assert [turn.audio for turn in second.asked.turns or ()] == ["audio_bob"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "video,sound,out\na.mp4,a.wav,x.mp4", "m.csv:1: unknown column 'sound'; expected action, audio, "),
        ("m.csv", "video,audio,out\na.mp4,a.wav,x.mp4,y", "m.csv:2: has more cells than the header"),
        ("m.csv", "video,audio,out\na.mp4,a.wav,", "m.csv:2: out: is required"),
        ("m.csv", "video,turns,out\na.mp4,[,x.mp4", "m.csv:2: Expecting value"),
        ("m.csv", "video,audio,out\na.mp4,a.wav,x.mp4\na.mp4,no.wav,y.mp4", "m.csv:3: audio: "),
        ("m.txt", "video,audio,out\na.mp4,a.wav,x.mp4", "m.txt: expected JSON lines; a table with a header needs"),
    ],
)
def test_read_manifest_invalid_csv_names_row_and_reason(inputs: Path, name: str, text: str, message: str) -> None:
    (inputs / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_manifest(inputs / name)
    assert str(inputs / message) in str(caught.value)
