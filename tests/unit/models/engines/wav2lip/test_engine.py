from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.paste.blend import spread_over
from models.engines.paste.crop import BoxPlan
from models.engines.paste.landmarks68 import FACE_OVAL
from models.engines.paste.resample import resize_box
from models.engines.protocol import ComputeResources, EngineClass, EngineSettings, FrameSpan, LiveEngine
from models.engines.wav2lip import audio
from models.engines.wav2lip.engine import Wav2LipEngine, track_boxes
from models.geometry.head_frame import HeadPose
from models.mouth.lip_model import LipModel
from models.speech.level import measure_level
from models.speech.stream import SpeechStream
from models.track.face_track import FaceTrack, finish_track
from models.weights import weights_path
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import crop
from tests.unit.models.engines.reference import random_pictures
from tests.unit.models.engines.wav2lip.networks import save_onnx
from tests.unit.models.speech.live_windows import live_windows

WIDTH, HEIGHT, NUM_FRAMES = 320, 240, 24


def talking_track(x: float = WIDTH / 2, y: float = HEIGHT * 0.4, absent: tuple[int, ...] = ()) -> FaceTrack:
    """N frames of the mean face: its head drifts to the right, its mouth opens wide twice."""
    time = np.arange(NUM_FRAMES)
    shapes = np.zeros((NUM_FRAMES, 8), np.float32)
    shapes[:, :6] = (np.sin(time / 4) ** 2)[:, None] * np.array([0.25, 0.24, -0.05, 0.02, 0.2, 0.2])
    mean = np.load(weights_path("mean_face_468.npy"))
    head = LipModel.load().deform(np.asarray(mean, np.float32), shapes)
    place = np.stack([x + 0.4 * time, y + 0 * time, 0 * time], 1)
    rotation = np.repeat(np.diag([1.0, -1.0, -1.0])[None], NUM_FRAMES, 0)
    points = HeadPose(np.full(NUM_FRAMES, 60.0), rotation, place).to_image(head)
    return finish_track(points, ~np.isin(time, absent))


MOUTH = [61, 291, 0, 17, 13, 14]
TRACK = talking_track()
BOXES = track_boxes(TRACK, WIDTH, HEIGHT)
PLACED = BOXES.boxes + np.tile(BOXES.origins, 2)


def test_track_boxes_follow_head_not_chin() -> None:
    assert np.ptp(TRACK.points[:, 152, 1]) > 8  # the chin goes up and down
    assert np.ptp(PLACED[:, 1]) < 1 and np.ptp(PLACED[:, 3]) < 1
    steps = np.diff(PLACED[:, 0])
    assert np.abs(steps - 0.4).max() < 0.2  # pixels: the head's own speed


def test_track_boxes_hold_face_like_detector() -> None:
    oval = TRACK.points[:, list(FACE_OVAL), :2].mean(0)
    middle = PLACED.mean(0)
    height = middle[3] - middle[1]
    assert np.abs(middle[:3] - [*oval.min(0), oval[:, 0].max()]).max() < 1
    assert 0.02 * height < middle[3] - oval[:, 1].max() < 0.08 * height
    mouth = (TRACK.points[:, MOUTH, 1].mean() - middle[1]) / height
    assert 0.6 < mouth < 0.8  # in the half that is generated
    lowest = (BOXES.outline + BOXES.origins[:, None])[..., 1].max(1)
    assert (lowest > TRACK.points[:, 152, 1]).all()
    assert np.ptp(lowest) > 2  # the outline follows an open mouth
    assert (lowest > TRACK.points[:, 152, 1].mean()).all()  # and gives a closed one the room to open


def test_track_boxes_end_at_frame_edge_absent_has_opacity_0() -> None:
    boxes = track_boxes(talking_track(20, 60), WIDTH, HEIGHT)
    placed = boxes.boxes + np.tile(boxes.origins, 2)
    assert (placed[:, 0] == 0).all() and (placed[:, 2] > 40).all()
    outside = track_boxes(talking_track(-400, 60), WIDTH, HEIGHT)
    assert (outside.boxes[:, 2] > outside.boxes[:, 0]).all()
    boxes = track_boxes(talking_track(absent=(8, 9, 10)), WIDTH, HEIGHT)
    assert (boxes.opacity[8:11] == 0).all() and 0 < boxes.opacity[7] < 1
    assert boxes.opacity[0] == 1
    assert boxes.num_frames == NUM_FRAMES


def test_paste_option_rectangle_writes_whole_box(tmp_path: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    weights = Brought({"generator": save_onnx(tmp_path / "generator.onnx", size=32)})
    engine = Wav2LipEngine(EngineSettings(weights, {"paste": "rectangle"}))
    chunk = crop(engine, avatar, BoxPlan(0, np.array([3], np.int32), np.ones((1, 80, 16), np.float32)), frames)
    done = engine.face_generator(ComputeResources()).generate(chunk)
    x0, y0, x1, y1 = chunk.boxes[0]
    lower = np.s_[int((y0 + y1) / 2) + 3 : int(y1) - 1, int(x0) + 1 : int(x1) - 1]
    assert (done.y[0][lower] != chunk.y[0][lower]).mean() > 0.9


def test_mel_offset_option_shifts_windows(tmp_path: Path) -> None:
    path, span = tmp_path / "speech.npy", FrameSpan(Fraction(25), 0, 20, 20)
    np.save(path, (3000 * np.random.default_rng(8).normal(size=12_800)).astype(np.int16))
    heard, none = audio.MelAudioEncoder().encode(path, measure_level(path), span), np.zeros(span.num, np.int32)
    stock, training = (audio.plan_windows(heard, span, none, offset).features for offset in (0, -1))
    assert np.array_equal(training[6::5], stock[5:-1:5])  # every fifth window starts at a whole column
    engine = Wav2LipEngine(EngineSettings(Brought({}), {"mel_offset": -1}))
    assert np.array_equal(engine.plan_frames(heard, span, none).features, training)


def test_resize_and_spread_equal_official_script(reference: Callable[[str], Any]) -> None:
    stored = reference("datapath_synth.npz")
    box = stored["box_y1y2x1x2"][[2, 0, 3, 1]].astype(np.float32)
    height, width = stored["frame_hw"]
    frames = random_pictures(4, height, width, int(stored["frame_seed"]))
    faces = np.stack([resize_box(frame, box, (96, 96), "linear") for frame in frames])
    assert np.array_equal(faces, stored["face_u8"])
    moved = box + np.float32(0.001)  # the way of boxes between pixels
    faces = np.stack([resize_box(frame, moved, (96, 96), "linear") for frame in frames])
    assert np.abs(faces.astype(int) - stored["face_u8"]).max() <= 1
    x0, y0, x1, y1 = (int(value) for value in box)
    for generated, official in zip(stored["pred"], stored["pasted_box"], strict=True):
        face = (generated.transpose(1, 2, 0) * 255).astype(np.uint8)  # cut off, as there
        planes = [spread_over(np.ascontiguousarray(face[..., c]), box, (x0, y0, x1, y1)) for c in range(3)]
        pasted = cv2.merge(planes)
        assert np.abs(pasted.astype(int) - official).max() <= 1


CLASS: type[LiveEngine] | EngineClass = Wav2LipEngine  # mypy checks here that it is an engine, for live sessions, too
RATE, NUM = 16000, 2


def _voice(seconds: float) -> NDArray[np.int16]:
    noise = np.random.default_rng(3).normal(0, 3000, round(seconds * RATE))
    voice: NDArray[np.int16] = (noise * np.sin(np.arange(len(noise)) / 2000) ** 2).astype(np.int16)
    return voice


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("mel_offset", [0, -1])
def test_mel_encode_live_equals_encode(tmp_path: Path, fps: Fraction, mel_offset: int) -> None:
    path, speech, span = tmp_path / "speech.npy", _voice(4.0), FrameSpan(fps, 0, 80, 80)
    np.save(path, speech)
    features = audio.MelAudioEncoder().encode(path, measure_level(path), span)
    job = audio.plan_windows(features, span, np.zeros(80, np.int32), mel_offset).features
    pieces = [
        audio.plan_windows(
            audio.MelAudioEncoder().encode_live(window), piece, np.zeros(NUM, np.int32), mel_offset
        ).features
        for piece, window in live_windows(speech, fps, range(80), NUM)
    ]
    live = np.concatenate(pieces)
    assert live.shape == job.shape
    assert np.abs(live - job).max() < 1e-4, "of a range from -4 to 4"


def test_mel_encode_live_after_interruption_reads_silence() -> None:
    stream = SpeechStream()
    stream.push(_voice(2.0))
    stream.forget_after(RATE)
    stream.push(_voice(1.0))
    stream.shut(1.0)
    features = audio.MelAudioEncoder().encode_live(stream.window(1.12, 1.2))
    span = FrameSpan(Fraction(25), 28, NUM, 30)
    assert np.all(audio.plan_windows(features, span, np.zeros(NUM, np.int32), 0).features == np.float32(audio.SILENCE))


@pytest.mark.parametrize("fps", ["25", "29.97", "30"])
def test_window_starts_equal_official_script(reference: Callable[[str], Any], fps: str) -> None:
    official = reference("mel_synth.npz")[f"synth_starts_{fps}"]
    ours = audio.window_starts(FrameSpan(Fraction(fps), 0, len(official), len(official)))
    # Its last window is moved back to end with the file; the frames after it are dropped. Ours go on.
    assert np.array_equal(ours[:-1], official[:-1]) and ours[-1] > official[-1]


def test_mel_windows_equal_official_script(reference: Callable[[str], Any]) -> None:
    official, stored = reference("datapath_synth.npz")["mel"], reference("mel_synth.npz")
    wave = stored["synth_wave_i16"]
    mel = audio.mel_columns(wave, 0, audio.num_columns(len(wave)))
    assert mel.T.shape == stored["synth_mel"].shape
    assert np.abs(mel.T - stored["synth_mel"]).max() <= 1e-5
    starts = audio.window_starts(FrameSpan(Fraction(25), 0, 51, 51))[5::15]
    assert starts.tolist() == [16, 64, 112, 160]
    assert np.abs(audio.mel_windows(mel, 0, starts) - official).max() <= 1e-5


def test_window_starts_offset_is_40_ms_at_any_rate() -> None:
    for fps in (Fraction(25), Fraction(30000, 1001), Fraction(50)):
        span = FrameSpan(fps, 0, 400, 400)
        exact = np.array([float(80 * i / fps) for i in range(400)])
        for offset in (-1, 0, 2):
            off = audio.window_starts(span, offset) - (exact + 3.2 * offset)
            assert (off <= 1e-9).all() and (off > -1).all()
    fps = Fraction(30000, 1001)  # late spans are exact
    whole = audio.window_starts(FrameSpan(fps, 0, 200_000, 200_000))
    part = audio.window_starts(FrameSpan(fps, 199_000, 1000, 200_000))
    assert np.array_equal(part, whole[199_000:])
    assert abs(whole[-1] / 80 - float(199_999 / fps)) < 1 / 80


@pytest.mark.parametrize("offset", [-audio.MAX_OFFSET, 0, audio.MAX_OFFSET])
def test_columns_needed_cover_all_windows(offset: int) -> None:
    for first in (0, 7, 1000):
        span = FrameSpan(Fraction(24000, 1001), first, 13, 2000)
        start, stop = audio.columns_needed(span)
        windows = audio.mel_windows(np.zeros((stop - start, 80), np.float32), start, audio.window_starts(span, offset))
        assert windows.shape == (13, 80, 16)
    with pytest.raises(ValueError, match="Expected windows in columns"):
        audio.mel_windows(np.zeros((20, 80), np.float32), 0, np.array([5]))


def _wave(num: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    rng = np.random.default_rng(seed)
    time = np.arange(num) / 16000
    tone = np.sin(2 * np.pi * (200 + 50 * np.sin(5 * time)) * time)
    return (8000 * tone * np.abs(np.sin(3 * time)) + rng.normal(0, 200, num)).astype(np.int16)


@pytest.mark.parametrize("num", [1, 2, 150, 400, 4000, 64123])
def test_mel_columns_range_equals_bytes_of_whole(num: int) -> None:
    wave = _wave(num)
    whole = audio.mel_columns(wave, -30, 360)
    for first, stop in ((-30, -2), (-7, 9), (0, 1), (100, 103), (159, 161), (160, 320), (317, 360), (330, 340)):
        assert np.array_equal(audio.mel_columns(wave, first, stop), whole[first + 30 : stop + 30])


def test_mel_columns_outside_file_are_silence() -> None:
    wave = _wave(16000)
    columns = audio.mel_columns(wave, -5, 90)
    assert (columns[:5] == audio.SILENCE).all()
    assert (columns[5 + audio.num_columns(16000) :] == audio.SILENCE).all()
    assert (columns[10:80].max(1) > -2).all()
    assert (audio.mel_columns(np.zeros(16000, np.int16), 0, 81) == audio.SILENCE).all()


def test_mel_columns_equal_formula_with_bank_of_librosa() -> None:
    wave = _wave(16000).astype(np.float64)
    piece = (wave[1:] - 0.97 * wave[:-1])[40 * 200 - 401 : 40 * 200 + 399] / 32768 * np.hanning(801)[:800]
    power = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600) @ np.abs(np.fft.rfft(piece))
    expected = (8 * (20 * np.log10(np.maximum(power, 1e-5)) - 20 + 100) / 100 - 4).clip(-4, 4)
    assert np.abs(audio.mel_columns(_wave(16000), 40, 41)[0] - expected).max() < 1e-5


def test_mel_encode_past_end_gives_windows(tmp_path: Path) -> None:
    time = np.arange(41_600) / 16000  # 2.6 seconds: silence, then a loud tone that comes and goes
    wave = 9000 * np.sin(2 * np.pi * 220 * time) * (time > 1) * np.abs(np.sin(8 * time))
    path = tmp_path / "speech.npy"
    np.save(path, wave.astype(np.int16))
    span = FrameSpan(Fraction(30000, 1001), 0, 100, 100)
    heard = audio.MelAudioEncoder().encode(path, measure_level(path), span)
    windows = audio.plan_windows(heard, span, np.zeros(100, np.int32), 0).features
    assert windows.shape == (100, 80, 16)
    assert (windows[80:] == -4).all()  # 2.67 s and later
    assert windows[74].max() > 0  # 2.47 s: dropped by the official script, whose last whole window starts at 2.41 s
    assert heard.gate[10] == 0 and heard.gate[45] == 1 and heard.gate[90] == 0
