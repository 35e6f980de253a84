"""How a record of a batch recognizes a pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.batch_record import open_record
from cluster.manifest import Pair

_LINE = {
    **{"video": "a.mp4", "audio": "s.wav", "audio_b": "t.wav", "out": "o.mp4", "size": "1080x1920", "fps": 30},
    **{"quality": "best", "visible_label": True, "expressiveness": 1.5, "motion": 0.5, "background": "#00ff00"},
    **{"music": "m.wav", "music_gain_db": -10, "loudness_lufs": -16, "background_gain_db": -3, "idle_mouths": "closed"},
    "turns": [{"face": "person:1", "start": 0, "gain_db": 3}, {"face": "person:2", "start": 1, "audio": "audio_b"}],
}
_REPORT = {"line": 1, "status": "failed", "error": {"code": "media_invalid", "retryable": False}}


def _reversed(value: Any) -> Any:
    """Return a JSON value with the fields of all objects in the opposite order."""
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(each) for each in value] if isinstance(value, list) else value


def _key(path: Path, line: dict[str, Any]) -> str:
    with open_record(path) as record:
        record.add(Pair.of(line), _REPORT)
    return str(json.loads(path.read_text().splitlines()[-1])["pair"])


def test_pair_key_ignores_field_order(tmp_path: Path) -> None:
    assert _key(tmp_path / "a", _LINE) == _key(tmp_path / "b", _reversed(_LINE))


def test_pair_key_of_existing_records_is_unchanged(tmp_path: Path) -> None:
    """Another key means that the pairs of a batch are rendered again: restore the order of the options, see `_key`."""
    assert _key(tmp_path / "a", _LINE) == "d69709062d48abf7ea7942b20c9dd692"


@pytest.mark.parametrize("name", sorted(_LINE.keys() - {"video", "audio", "audio_b", "out", "turns"}))
def test_pair_key_depends_on_each_option(tmp_path: Path, name: str) -> None:
    others = {key: value for key, value in _LINE.items() if key != name}
    if name == "music":
        del others["music_gain_db"]
    assert _key(tmp_path / "a", _LINE) != _key(tmp_path / "b", others)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ({}, "ff9516d46152e65074c2f44ead434c1b"),
        (
            {"video": "s3://b/a.mp4", "audio": None, "text": "Hi", "voice": "nova", "engine": "warp"}
            | {"face": "person:1", "loop": "hold"},
            "794f1c6b50924281fb8627fc448a055c",
        ),
        ({"music": "m.wav", "music_gain_db": -12}, "3ad9c46d63ce940b78c248bbdc4c08f4"),
        ({"music": "m.wav"}, "4f1f68840a953d7edb704808b3e12fbf"),
        ({"loop": "retime", "max_audio_stretch": 1.2, "loudness_lufs": -16}, "2edcb088826ea0c543a74e40a2bb956e"),
        (
            {"diarization": "d.rttm", "speakers": {"B": {"face": "person:1"}, "A": {"face": "person:0"}}}
            | {"idle_mouths": "closed"},
            "be0dd02e585f0599e1751b100cf2d1c7",
        ),
        (
            {"audio": None, "subtitles": "x.srt", "speakers": {"A": {"face": "person:0", "voice": "k"}}}
            | {"subtitles_output": "track", "language": "de", "visible_label": True},
            "5286f46df471794abaf8aee4964e3279",
        ),
        (
            {"background_file": "bg.png", "background_loop": "pingpong", "matte": "chroma", "crop": "9:16"},
            "824515959c7b085f2dc9023c975b013d",
        ),
        (
            {"format": "webm", "out": "o.webm", "background": "transparent", "quality": "balanced"}
            | {"loop": "pingpong", "expressiveness": 1.0, "fps": 25},
            "88940471a3fddcde85bb8ede2f9d6026",
        ),
        (
            {"audio": None, "idle_mouths": "source"}
            | {
                "turns": [
                    {"start": 0, "text": "Hi", "voice": "v", "speaker": "A"},
                    {"start": 2.5, "end": 4, "text": "Yo"},
                ]
            },
            "fe3d737419c737bb206e6f18d01d9efe",
        ),
    ],
)
def test_keys_of_earlier_versions_stay_valid(tmp_path: Path, line: dict[str, Any], key: str) -> None:
    assert _key(tmp_path / "a", {"video": "a.mp4", "audio": "s.wav", "out": "o.mp4"} | line) == key


@pytest.mark.parametrize("more", [{"face_image": "who.png"}, {"metadata": {"order": "17"}}])
def test_key_of_a_new_field_counts_it(tmp_path: Path, more: dict[str, Any]) -> None:
    line = {"video": "a.mp4", "audio": "s.wav", "out": "o.mp4"}
    assert _key(tmp_path / "a", line) != _key(tmp_path / "b", line | more)
