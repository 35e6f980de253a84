"""Ten minutes of video: sound and picture end together and do not drift apart, at three frame rates."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.media_files import write_wav
from lipwright.media.audio import AudioTrack, num_output_frames
from lipwright.media.audio_parts import AudioPart
from lipwright.media.playback import fit, fit_audio
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from tests.unit.media.clips import LIMITS, info_of, write_segment

SPEECH_SECONDS = 600.3
RATE = 16000
CLICKS = range(30, 600, 60)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Silence with a tone of 20 ms in every minute."""
    samples = np.zeros(round(SPEECH_SECONDS * RATE), np.int16)
    for second in CLICKS:
        samples[second * RATE : second * RATE + 320] = 12000 * np.sin(np.arange(320) * 0.4)
    return write_wav(tmp_path_factory.mktemp("speech") / "a.wav", samples, RATE)


@pytest.mark.parametrize(
    ("fps", "mode"), [(Fraction(24), "retime"), (Fraction(25), "source"), (Fraction(30000, 1001), "stretch")]
)
def test_concat_ten_minutes_stays_in_sync(tmp_path: Path, speech: Path, fps: Fraction, mode: str) -> None:
    num_source = round((780 if mode == "stretch" else 605.7) * fps)
    speed = fit_audio(SPEECH_SECONDS, float(num_source / fps), 1.35) if mode == "stretch" else 1.0
    num_speech = num_output_frames(SPEECH_SECONDS / speed, fps)
    num_frames, playback = fit("source" if mode == "source" else "retime", num_speech, num_source)
    assert (mode == "retime") == (playback.speed != 1)
    info, out = info_of(64, 64, fps), tmp_path / "out.mp4"
    whole, last = (
        write_segment(tmp_path / f"{num}.mp4", range(num), SegmentWriter(info, 30, "ultrafast", 1), (64, 64))
        for num in (240, num_frames % 240)
    )
    segments = [whole] * (num_frames // 240) + [last]
    concat_segments(segments, ResultSound([AudioPart(speech, speed=speed)]), out, info, num_frames)
    with closing(AudioTrack(out, LIMITS)) as track:
        sound = np.concatenate(list(track.blocks(RATE, "mono", "fltp")), axis=1)[0]
    with av.open(str(out)) as file:
        times = sorted(float(packet.pts * packet.time_base) for packet in file.demux(video=0) if packet.pts is not None)
    video_seconds = times[-1] + float(1 / fps)
    assert len(times) == num_frames
    assert np.abs(np.array(times) - np.arange(num_frames) / float(fps)).max() < 0.001
    assert abs(len(sound) / RATE - video_seconds) < float(1 / fps)
    loud = np.flatnonzero(np.abs(sound) > 0.1) / RATE
    starts = loud[np.diff(loud, prepend=-1) > 1]
    assert np.abs(starts - np.array(CLICKS) / speed).max() < (0.06 if mode == "stretch" else 0.005)  # a window
