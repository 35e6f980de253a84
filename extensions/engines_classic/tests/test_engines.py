from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from classic_weights.dinet_exports import export_deepspeech, export_generator, export_wenet
from classic_weights.edtalk import save_edtalk
from classic_weights.ultralight import save_hubert, save_ultralight, save_wenet
from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError, OptionError, WeightsError
from lipwright_engines_classic.dinet.deepspeech import DeepSpeechAudioEncoder
from lipwright_engines_classic.dinet.engine import DinetEngine, HeyGemVariant
from lipwright_engines_classic.dinet.generator import HeyGemGenerator
from lipwright_engines_classic.dinet.landmarks import FaceDetector, FaceLandmarks98
from lipwright_engines_classic.dinet.options import DinetOptions
from lipwright_engines_classic.dinet.wenet import WenetAudioEncoder
from lipwright_engines_classic.edtalk.engine import EdTalkEngine, EdTalkGenerator
from lipwright_engines_classic.ultralight.engine import UltralightEngine
from lipwright_engines_classic.ultralight.generator import OnnxGenerator as UltralightGenerator
from lipwright_engines_classic.ultralight.hubert import HubertAudioEncoder, OnnxHubert
from lipwright_engines_classic.ultralight.options import UltralightOptions
from lipwright_engines_classic.ultralight.wenet import OnnxWenet
from lipwright_engines_classic.ultralight.wenet import WenetAudioEncoder as StreamingWenetAudioEncoder
from models.engines.catalog import EngineCatalog, engine_list
from models.engines.protocol import AudioEncoder, ComputeResources, EngineClass, EngineSettings
from models.engines.registry import ENTRY_POINT_GROUP
from models.engines.weights.store import WeightsStore
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.contract import AudioEncoderContract, EngineContract, Setup

CPU = ComputeResources()
ENGINES: dict[str, EngineClass] = {"dinet": DinetEngine, "edtalk": EdTalkEngine, "ultralight": UltralightEngine}


def test_package_installs_all_engines() -> None:
    installed = {
        point.name: point.load()
        for point in entry_points(group=ENTRY_POINT_GROUP)
        if point.dist is not None and point.dist.name == "lipwright-engines-classic"
    }
    assert installed == ENGINES, "install the package: pip install -e extensions/engines_classic"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Small networks: the files of each engine by role."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "dinet": {"generator": export_generator(folder / "dinet.onnx"), "speech": export_wenet(folder / "wenet.onnx")},
        "edtalk": {"generator": save_edtalk(folder / "edtalk.onnx")},
        "ultralight": {
            "generator": save_ultralight(folder / "ultralight.pth", width=16),
            "hubert": save_hubert(folder / "hubert.onnx"),
        },
    }


@pytest.fixture(params=ENGINES)
def setup(request: pytest.FixtureRequest, weights: dict[str, dict[str, Path]]) -> Setup:
    name = request.param
    options = {} if name == "edtalk" else {"batch_size": 4}
    engine = ENGINES[name](EngineSettings(Brought(weights[name]), options))
    # Speech makes DINet's stand-in brighter, which pasting removes.
    return Setup(engine, lambda: engine.audio_encoder(CPU), lambda: engine.face_generator(CPU), name != "dinet")


class TestEngines(EngineContract):
    pass


@pytest.fixture(params=["deepspeech", "hubert", "streaming wenet", "wenet"])
def audio_encoder(request: pytest.FixtureRequest, tmp_path: Path) -> AudioEncoder:
    path = tmp_path / "encoder.onnx"
    make: dict[str, Callable[[], AudioEncoder]] = {
        "deepspeech": lambda: DeepSpeechAudioEncoder(export_deepspeech(path), CPU),
        "hubert": lambda: HubertAudioEncoder(OnnxHubert(save_hubert(path), CPU)),
        "streaming wenet": lambda: StreamingWenetAudioEncoder(OnnxWenet(save_wenet(path), CPU)),
        "wenet": lambda: WenetAudioEncoder(export_wenet(path), CPU),
    }
    return make[request.param]()


class TestAudioEncoders(AudioEncoderContract):
    pass


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
        lambda path: OnnxWenet(path, CPU),
        lambda path: UltralightGenerator(path, CPU, UltralightOptions()),
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
        ("ultralight", {"paste": "hard"}),
    ],
)
def test_engine_invalid_option_raises_config_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^engines\.{name}\.{next(iter(options))}\b.*, found "):
        ENGINES[name](EngineSettings(Brought({}), options))


@pytest.mark.parametrize("name", ENGINES)
def test_engine_without_weights_raises_weights_error(name: str) -> None:
    engine = ENGINES[name](EngineSettings(Brought({}), {}))
    with pytest.raises(WeightsError, match="There is no "):
        engine.face_generator(CPU)


def test_check_one_of_two_alternative_files_suffices(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path / "weights", ENGINES)
    catalog = EngineCatalog(PipelineConfig(data_dir=tmp_path), engines=ENGINES)
    store.add(save_ultralight(tmp_path / "anna.pth", "wenet"), "ultralight")
    with pytest.raises(OptionError, match="missing HuBERT.*--engine ultralight --role hubert"):
        catalog.check("ultralight")
    store.add(save_wenet(tmp_path / "encoder.onnx"), "ultralight")
    catalog.check("ultralight")
    (record,) = (each for each in engine_list(store) if each.name == "ultralight")
    assert [(role.role, role.is_required) for role in record.missing] == [("hubert", False)]
