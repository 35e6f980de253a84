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


@pytest.mark.parametrize("name", sorted(_LINE.keys() - {"video", "audio", "audio_b", "out", "turns"}))
def test_pair_key_depends_on_each_option(tmp_path: Path, name: str) -> None:
    others = {key: value for key, value in _LINE.items() if key != name}
    if name == "music":
        del others["music_gain_db"]
    assert _key(tmp_path / "a", _LINE) != _key(tmp_path / "b", others)


@pytest.mark.parametrize("more", [{"face_image": "who.png"}, {"metadata": {"order": "17"}}, {"engine": "warp"}])
def test_pair_key_depends_on_each_field(tmp_path: Path, more: dict[str, Any]) -> None:
    line = {"video": "a.mp4", "audio": "s.wav", "out": "o.mp4"}
    assert _key(tmp_path / "a", line) != _key(tmp_path / "b", line | more)
