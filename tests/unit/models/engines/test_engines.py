from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lipwright.errors import ConfigError, WeightsError
from models.engines.musetalk.audio import WhisperAudioEncoder, load_encoder
from models.engines.musetalk.generator import load_face_generator
from models.engines.protocol import AudioEncoder, ComputeResources, EngineSettings
from models.engines.registry import engine_class
from models.engines.restoration.restorer import OnnxRestoration
from models.engines.wav2lip.audio import MelAudioEncoder
from models.engines.wav2lip.generator import OnnxGenerator as Wav2LipGenerator
from models.engines.wav2lip.options import Wav2LipOptions
from tests.random_weights.restoration import save_restoration
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.contract import (
    AudioEncoderContract,
    EngineContract,
    Setup,
    speech,  # noqa: F401
)
from tests.unit.models.engines.musetalk.conftest import SMALL, SMALL_WHISPER, small_files, small_whisper  # noqa: F401
from tests.unit.models.engines.wav2lip.networks import save_onnx

CPU = ComputeResources()


@pytest.fixture(params=["musetalk", "wav2lip"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Setup:
    if request.param == "wav2lip":
        files = Brought({"generator": save_onnx(tmp_path / "wav2lip.onnx", size=32)})
        engine = engine_class("wav2lip")(EngineSettings(files, {"batch_size": 4}))
        return Setup(engine, lambda: engine.audio_encoder(CPU), lambda: engine.face_generator(CPU))
    small: Brought = request.getfixturevalue("small_files")  # smaller than those that the engine itself loads
    engine = engine_class("musetalk")(EngineSettings(Brought({}), {"batch_size": 4}))
    return Setup(
        engine,
        lambda: WhisperAudioEncoder(load_encoder(small, CPU, SMALL_WHISPER)),
        lambda: load_face_generator(small, engine.options, CPU, SMALL),  # type: ignore[attr-defined]
    )


class TestEngines(EngineContract):
    pass


@pytest.fixture(params=["mel", "whisper"])
def audio_encoder(request: pytest.FixtureRequest) -> AudioEncoder:
    mel: AudioEncoder = MelAudioEncoder()
    return mel if request.param == "mel" else WhisperAudioEncoder(request.getfixturevalue("small_whisper"))


class TestAudioEncoders(AudioEncoderContract):
    pass


@pytest.mark.parametrize(
    ("load", "save"),
    [
        (lambda path: OnnxRestoration(path, CPU, 0.7), lambda path: save_onnx(path, size=512)),
        (lambda path: Wav2LipGenerator(path, CPU, Wav2LipOptions()), save_restoration),
    ],
)
def test_load_other_network_reports_expected_and_found(
    load: Callable[[Path], object], save: Callable[[Path], Path], tmp_path: Path
) -> None:
    other = save(tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match=r"^other\.onnx: expected .*, found .*512"):
        load(other)
    with pytest.raises(WeightsError, match=r"missing\.onnx does not exist"):
        load(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("musetalk", {key: value}) for key, value in (("bbox_shift", 99), ("model", "2"), ("precision", "int8"))),
        *(("wav2lip", {key: value}) for key, value in (("mel_offset", 9), ("batch_size", -1), ("paste", "poisson"))),
    ],
)
def test_engine_invalid_option_raises_config_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^engines\.{name}\.{next(iter(options))}\b.*, found "):
        engine_class(name)(EngineSettings(Brought({}), options))


@pytest.mark.parametrize("name", ["musetalk", "wav2lip"])
def test_engine_without_weights_raises_weights_error(name: str) -> None:
    engine = engine_class(name)(EngineSettings(Brought({}), {}))
    with pytest.raises(WeightsError, match="There is no "):
        engine.face_generator(CPU)
