import pickle
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.errors import CancelledJobError, ConfigError, MediaError, WeightsError
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.dinet.deepspeech import DeepSpeechAudioEncoder
from models.engines.dinet.engine import HeyGemVariant
from models.engines.dinet.generator import HeyGemGenerator
from models.engines.dinet.landmarks import FaceDetector, FaceLandmarks98
from models.engines.dinet.options import DinetOptions
from models.engines.dinet.wenet import WenetAudioEncoder
from models.engines.edtalk.engine import EdTalkGenerator
from models.engines.musetalk.audio import WhisperAudioEncoder, load_encoder
from models.engines.musetalk.generator import load_face_generator
from models.engines.protocol import AudioEncoder, ComputeResources, Engine, EngineSettings, FaceGenerator, FrameSpan
from models.engines.registry import engine_class
from models.engines.restoration.restorer import OnnxRestoration
from models.engines.ultralight.generator import OnnxGenerator as UltralightGenerator
from models.engines.ultralight.hubert import HubertAudioEncoder, OnnxHubert
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.wenet import OnnxWenet
from models.engines.ultralight.wenet import WenetAudioEncoder as StreamingWenetAudioEncoder
from models.engines.wav2lip.audio import MelAudioEncoder
from models.engines.wav2lip.generator import OnnxGenerator as Wav2LipGenerator
from models.engines.wav2lip.options import Wav2LipOptions
from models.speech.level import SpeechLevel, measure_level
from tests.random_weights.dinet_exports import export_deepspeech, export_generator, export_wenet
from tests.random_weights.edtalk import save_edtalk
from tests.random_weights.ultralight import save_hubert, save_ultralight, save_wenet
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.musetalk.conftest import SMALL, SMALL_WHISPER, small_files, small_whisper  # noqa: F401
from tests.unit.models.engines.paste.face_scene import ABSENT, analyse, patch_bytes
from tests.unit.models.engines.wav2lip.networks import save_onnx

ENGINES = ("dinet", "edtalk", "musetalk", "ultralight", "wav2lip")
CPU = ComputeResources()
Speech = tuple[Path, SpeechLevel]

# A source frame that is shown twice, and one without a face.
SOURCE = np.array([0, 1, 2, 3, 4, ABSENT, 6, 7, 8, 9, 9, 11], np.int32)
NUM = len(SOURCE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Small networks: the files of each engine by role."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "dinet": {"generator": export_generator(folder / "dinet.onnx"), "speech": export_wenet(folder / "wenet.onnx")},
        "edtalk": {"generator": save_edtalk(folder / "edtalk.onnx")},
        "musetalk": {},
        "ultralight": {
            "generator": save_ultralight(folder / "ultralight.pth", width=16),
            "hubert": save_hubert(folder / "hubert.onnx"),
        },
        "wav2lip": {"generator": save_onnx(folder / "wav2lip.onnx", size=32)},
    }


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    """Half a second of noise that comes and goes, and its level."""
    path = tmp_path_factory.mktemp("speech") / "speech.npy"
    loudness = 9000 * np.sin(np.arange(8000) / 1600) ** 2
    np.save(path, (loudness * np.random.default_rng(0).uniform(-1, 1, 8000)).astype(np.int16))
    return path, measure_level(path)


@dataclass(frozen=True)
class Setup:
    engine: Engine
    audio_encoder: Callable[[], AudioEncoder]
    face_generator: Callable[[], FaceGenerator]


@pytest.fixture(params=ENGINES)
def setup(request: pytest.FixtureRequest, weights: dict[str, dict[str, Path]]) -> Setup:
    name = request.param
    options = {} if name == "edtalk" else {"batch_size": 4}
    engine = engine_class(name)(EngineSettings(Brought(weights[name]), options))
    if name != "musetalk":
        return Setup(engine, lambda: engine.audio_encoder(CPU), lambda: engine.face_generator(CPU))
    files: Brought = request.getfixturevalue("small_files")  # smaller than those that the engine itself loads
    return Setup(
        engine,
        lambda: WhisperAudioEncoder(load_encoder(files, CPU, SMALL_WHISPER)),
        lambda: load_face_generator(files, engine.options, CPU, SMALL),  # type: ignore[attr-defined]
    )


def test_encode_plan_crop_generate_in_parts_gives_same_bytes(
    setup: Setup, avatar: Avatar, frames: list[YuvFrame], speech: Speech
) -> None:
    """As the graph runs an engine: in blocks and chunks of any size, in any process, pickled between the steps."""
    analyse(setup.engine, avatar)

    def generate(face_generator: FaceGenerator, first: int, stop: int, size: int) -> list[bytes | None]:
        span = FrameSpan(Fraction(25), first, stop - first, NUM)
        features = pickle.loads(pickle.dumps(setup.audio_encoder().encode(*speech, span)))
        planned = setup.engine.plan(avatar, features, span, SOURCE[first:stop], None)
        assert (planned.state, planned.measures.num_frames) == (None, span.num)
        made: list[bytes | None] = []
        for start in range(0, span.num, size):
            part = pickle.loads(pickle.dumps(planned.plan.slice(start, min(start + size, span.num))))
            chunk = setup.engine.crop(avatar, part, [frames[i] for i in part.source_index])
            made += patch_bytes(face_generator.generate(pickle.loads(pickle.dumps(chunk))))
        return made

    whole = generate(setup.face_generator(), 0, NUM, NUM)
    other = setup.face_generator()
    assert [*generate(other, 0, 5, 2), *generate(other, 5, NUM, 3)] == whole
    assert [t for t, patch in enumerate(whole) if patch is None] == [SOURCE.tolist().index(ABSENT)]
    if setup.engine.name != "dinet":  # speech makes its stand-in brighter, which pasting removes
        assert len(set(whole)) == NUM, "one picture, driven by different speech, gives different patches"


def test_generate_changes_only_face(setup: Setup, avatar: Avatar, frames: list[YuvFrame], speech: Speech) -> None:
    analyse(setup.engine, avatar)
    span = FrameSpan(Fraction(25), 0, 3, NUM)
    features = setup.audio_encoder().encode(*speech, span)
    plan = setup.engine.plan(avatar, features, span, SOURCE[7:10], None).plan
    chunk = setup.engine.crop(avatar, plan, [frames[i] for i in plan.source_index])
    patches = setup.face_generator().generate(chunk)
    for face in range(3):
        changed = np.argwhere(patches.y[face] != chunk.y[chunk.crop[face]])
        hull = cv2.convexHull(chunk.outline[face])
        assert len(changed) > 1000
        assert min(cv2.pointPolygonTest(hull, (float(x), float(y)), True) for y, x in changed) > -2.5
    with pytest.raises(CancelledJobError, match="0 of 3 faces"):
        setup.face_generator().generate(chunk, lambda: True)


@pytest.fixture(params=["deepspeech", "hubert", "mel", "streaming wenet", "wenet", "whisper"])
def audio_encoder(request: pytest.FixtureRequest, tmp_path: Path) -> AudioEncoder:
    path = tmp_path / "encoder.onnx"
    make: dict[str, Callable[[], AudioEncoder]] = {
        "deepspeech": lambda: DeepSpeechAudioEncoder(export_deepspeech(path), CPU),
        "hubert": lambda: HubertAudioEncoder(OnnxHubert(save_hubert(path), CPU)),
        "mel": MelAudioEncoder,
        "streaming wenet": lambda: StreamingWenetAudioEncoder(OnnxWenet(save_wenet(path), CPU)),
        "wenet": lambda: WenetAudioEncoder(export_wenet(path), CPU),
        "whisper": lambda: WhisperAudioEncoder(request.getfixturevalue("small_whisper")),
    }
    return make[request.param]()


def test_encode_other_file_or_cancel_raises(audio_encoder: AudioEncoder, speech: Speech) -> None:
    path, level = speech
    span = FrameSpan(Fraction(25), 0, 10, 10)
    with pytest.raises(MediaError, match=r"Expected 5 samples.*speech\.npy, found 8000"):
        audio_encoder.encode(path, SpeechLevel(5, 1.0, -20.0), span)
    with pytest.raises(CancelledJobError):
        audio_encoder.encode(path, level, span, lambda: True)


LAYOUT = HeyGemVariant(DinetOptions()).layout


@pytest.mark.parametrize(
    "load",
    [
        lambda path: DeepSpeechAudioEncoder(path, CPU),
        lambda path: EdTalkGenerator(path, CPU, 0.5),
        lambda path: FaceDetector(path, CPU),
        lambda path: FaceLandmarks98(path, CPU),
        lambda path: HeyGemGenerator(path, CPU, LAYOUT),
        lambda path: OnnxHubert(path, CPU),
        lambda path: OnnxRestoration(path, CPU, 0.7),
        lambda path: OnnxWenet(path, CPU),
        lambda path: UltralightGenerator(path, CPU, UltralightOptions()),
        lambda path: Wav2LipGenerator(path, CPU, Wav2LipOptions()),
        lambda path: WenetAudioEncoder(path, CPU),
    ],
)
def test_load_other_network_reports_expected_and_found(load: Callable[[Path], object], tmp_path: Path) -> None:
    other = save_edtalk(tmp_path / "other.onnx", side=512)
    with pytest.raises(WeightsError, match=r"^other\.onnx: expected .*, found .*512"):
        load(other)
    with pytest.raises(WeightsError, match=r"missing\.onnx does not exist"):
        load(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dinet", {"past": "face"}),
        ("dinet", {"mask_rows": (86, 300)}),
        ("dinet", {"mask_rows": (200, 100)}),
        ("edtalk", {"weight": 3}),
        ("edtalk", {"colour": 1}),
        *(("musetalk", {key: value}) for key, value in (("bbox_shift", 99), ("model", "2"), ("precision", "int8"))),
        ("ultralight", {"paste": "hard"}),
        *(("wav2lip", {key: value}) for key, value in (("mel_offset", 9), ("batch_size", -1), ("paste", "poisson"))),
    ],
)
def test_engine_invalid_option_raises_config_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^engines\.{name}\.{next(iter(options))}\b.*, found "):
        engine_class(name)(EngineSettings(Brought({}), options))


@pytest.mark.parametrize("name", ENGINES)
def test_engine_without_weights_raises_weights_error(name: str) -> None:
    engine = engine_class(name)(EngineSettings(Brought({}), {}))
    with pytest.raises(WeightsError, match="There is no "):
        engine.face_generator(CPU)
