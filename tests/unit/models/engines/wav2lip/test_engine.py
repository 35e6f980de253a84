from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.paste.blend import spread_over
from models.engines.paste.crop import BoxPlan
from models.engines.paste.landmarks68 import FACE_OVAL
from models.engines.paste.resample import resize_box
from models.engines.protocol import ComputeResources, EngineClass, EngineSettings, FrameSpan, LiveEngine
from models.engines.wav2lip.audio import SILENCE, MelAudioEncoder, MelLiveAudioEncoder, plan_windows
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
    assert (placed[:, 0] == 0).all()
    assert (placed[:, 2] > 40).all()
    outside = track_boxes(talking_track(-400, 60), WIDTH, HEIGHT)
    assert (outside.boxes[:, 2] > outside.boxes[:, 0]).all()
    boxes = track_boxes(talking_track(absent=(8, 9, 10)), WIDTH, HEIGHT)
    assert (boxes.opacity[8:11] == 0).all()
    assert 0 < boxes.opacity[7] < 1
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
    heard, none = MelAudioEncoder().encode(path, measure_level(path), span), np.zeros(span.num, np.int32)
    stock, training = (plan_windows(heard, span, none, offset).features for offset in (0, -1))
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
    features = MelAudioEncoder().encode(path, measure_level(path), span)
    job = plan_windows(features, span, np.zeros(80, np.int32), mel_offset).features
    pieces = [
        plan_windows(MelLiveAudioEncoder().encode_live(window), piece, np.zeros(NUM, np.int32), mel_offset).features
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
    features = MelLiveAudioEncoder().encode_live(stream.window(1.12, 1.2))
    span = FrameSpan(Fraction(25), 28, NUM, 30)
    assert np.all(plan_windows(features, span, np.zeros(NUM, np.int32), 0).features == np.float32(SILENCE))
