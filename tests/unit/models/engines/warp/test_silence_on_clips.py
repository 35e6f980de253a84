"""Silence put to films of real talkers, of ../shared/clips/wild or the folder that LIPWRIGHT_TALKERS names, if any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analysis import analyse
from media.reader import FrameReader
from models.engines.protocol import ComputeResources
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.plan import plan_block
from models.mouth.motion import RunningStats
from models.quality.findings import STILL
from models.speech.speech_to_mouth import MouthBlock

_FOLDER = Path(os.environ.get("LIPWRIGHT_TALKERS") or Path(__file__).parents[6] / "shared/clips/wild")
_FRAMES, _CHUNK = 96, 32


@pytest.mark.slow
@pytest.mark.skipif(not _FOLDER.is_dir(), reason="needs films of talkers; LIPWRIGHT_TALKERS names their folder")
@pytest.mark.parametrize("film", sorted(_FOLDER.glob("*.mp4")), ids=lambda path: path.stem)
def test_generate_on_clips_in_silence_keeps_mouth_still(film: Path, tmp_path: Path) -> None:
    cached, _ = analyse(film, tmp_path / "avatar")
    avatar, engine = cached.avatar, cached.engine
    face_generator = engine.face_generator(ComputeResources())
    num = min(avatar.info.num_frames, _FRAMES)
    warp_avatar = WarpAvatar.load(avatar, avatar.folder_of(engine))
    hidden = np.zeros((num, len(warp_avatar.calibration.adaptation.weights)), np.float32)
    mouth = MouthBlock(np.zeros((num, 8), np.float32), np.zeros(num, np.float32), hidden)
    plan, _ = plan_block(warp_avatar, mouth, np.arange(num, dtype=np.int32), 0, None)
    motion = RunningStats()
    with FrameReader(film, avatar.info, 2**27) as reader:
        for start in range(0, num, _CHUNK):
            piece = plan.slice(start, min(num, start + _CHUNK))
            chunk = engine.crop(avatar, piece, list(reader.read(piece.source_index.tolist())))
            motion += face_generator.generate(chunk).silent_motion
    assert motion.num > num / 2
    assert motion.rms is not None and motion.rms < STILL
