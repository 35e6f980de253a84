from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from classic_weights.ultralight import save_generator, save_ultralight, save_wenet
from lipwright.errors import ConfigError, WeightsError
from lipwright.media.yuv_frame import YuvFrame
from lipwright_engines_classic.ultralight.audio import UltralightFeatures, UltralightPlan, frame_rows, wanted_ids
from lipwright_engines_classic.ultralight.engine import UltralightEngine, face_boxes, inner_boxes, network_pictures
from lipwright_engines_classic.ultralight.generator import load_generator
from lipwright_engines_classic.ultralight.network import UltralightNetwork, load_network, picture_input, published_names
from lipwright_engines_classic.ultralight.options import UltralightOptions
from lipwright_engines_classic.ultralight.torch_generator import TorchGenerator
from lipwright_engines_classic.ultralight.weights import AudioKind, Variant, variant_of_audio, variant_of_tensors
from models.avatar.avatar import Avatar
from models.engines.paste.landmarks68 import ibug_points
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan
from models.geometry.head_frame import mean_face
from models.speech.level import measure_level
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import crop
from tests.unit.models.engines.reference import fill

FP32 = UltralightOptions(precision="fp32")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow generator for HuBERT features."""
    return save_ultralight(tmp_path_factory.mktemp("weights") / "anna.pth", width=16)


def make_engine(checkpoint: Path, **options: Any) -> UltralightEngine:
    files = Brought({"generator": checkpoint, "hubert": checkpoint})
    return UltralightEngine(EngineSettings(files, {"precision": "fp32", **options}))


def make_plan(source: list[int], audio_kind: AudioKind = "hubert") -> UltralightPlan:
    span = FrameSpan(Fraction(25), 10, len(source), 100)
    ids = wanted_ids(audio_kind, span, 1000)
    width = 1024 if audio_kind == "hubert" else 16 * 512
    rows = np.random.default_rng(1).normal(0, 0.5, (2000, width)).astype(np.float32)[ids]
    heard = UltralightFeatures(audio_kind, frame_rows(audio_kind, span), ids, rows, np.ones(len(source), np.float32))
    return UltralightPlan(10, np.array(source, np.int32), heard)


def test_paste_rectangle_reaches_box_border(checkpoint: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    engine = make_engine(checkpoint, paste="rectangle")
    chunk = crop(engine, avatar, make_plan([8]), frames)
    patches = engine.face_generator(ComputeResources()).generate(chunk)
    changed = np.argwhere(patches.y[0] != chunk.y[0]) + patches.origins[0, ::-1]
    box = inner_boxes(face_boxes(ibug_points(avatar.track.points[[8]])))[0]
    assert np.abs(changed.min(0)[::-1] - box[:2]).max() < 2
    assert np.abs(changed.max(0)[::-1] + 1 - box[2:]).max() < 2


def test_face_boxes_of_mean_face_equal_published_crop() -> None:
    """1.671 eye distances wide, from .244 below the eyes; the inner picture is 160 of its 168 pixels."""
    points = ibug_points(mean_face()[None] * [100, -100, 100])
    x0, y0, x1, y1 = face_boxes(points)[0]
    assert abs((x1 - x0) - 167.1) < 1
    assert abs((y1 - y0) - (x1 - x0)) < 1e-3
    assert abs(y0 - 24.4) < 1.5
    inner = inner_boxes(face_boxes(points))[0]
    assert np.allclose((inner[2:] - inner[:2]) / (x1 - x0), 160 / 168)


def test_torch_generator_equals_unfolded_network(checkpoint: Path) -> None:
    generator = TorchGenerator(checkpoint, ComputeResources(), FP32)
    rng = np.random.default_rng(2)
    faces = rng.integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    audio = rng.normal(0, 0.4, (2, 16, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        plain = load_network(checkpoint)(torch.from_numpy(network_pictures(faces)), torch.from_numpy(audio)).numpy()
    expected = plain.transpose(0, 2, 3, 1)[..., ::-1] * 255
    assert np.abs(generator.generate(faces, audio) - expected).max() < 0.51
    # The reference, then the masked picture: cv2.rectangle(img, (5, 5, 150, 145), 0, -1) of face_utils.py.
    masked = cv2.rectangle(faces[0].copy(), (5, 5, 150, 145), (0, 0, 0), -1)
    seen = np.concatenate([faces[0], masked], 2).transpose(2, 0, 1).astype(np.float32) / 255
    assert np.array_equal(network_pictures(faces)[0], seen)
    assert np.array_equal(picture_input(torch.from_numpy(faces))[0].numpy(), seen)


@pytest.mark.parametrize("batch", [1, 3, "batch"])
def test_onnx_generator_accepts_any_batch_and_input_order(tmp_path: Path, batch: int | str) -> None:
    path = save_generator(tmp_path / "anna.onnx", batch)
    generator = load_generator(path, ComputeResources(), FP32, "hubert")
    faces = np.random.default_rng(3).integers(0, 256, (5, 160, 160, 3), dtype=np.uint8)
    audio = np.repeat(np.array([0, 0.1, 0.2, 0.3, 0.4], np.float32), 16 * 32 * 32).reshape(5, 16, 32, 32)
    generated = generator.generate(faces, audio)
    expected = (faces / 255.0 - audio[:, :1, :1, :1].reshape(5, 1, 1, 1)) * 255
    inside = generated[:, 20:140, 20:140]
    assert np.abs(inside - expected[:, 20:140, 20:140, ::-1].clip(0, 255)).max() <= 0.51
    assert (generated[0, 0, 0] < faces[0, 0, 0, ::-1]).all()  # the border is not masked
    assert generator.generate(faces[:0], audio[:0]).shape == (0, 160, 160, 3)


def test_load_generator_other_network_raises_weights_error(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"anna\.pth for wenet features, found one for hubert"):
        load_generator(checkpoint, ComputeResources(), FP32, "wenet")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(WeightsError, match=r"other\.pth: expected audio_model"):
        load_generator(other, ComputeResources(), FP32, "hubert")


def test_audio_encoder_option_auto_uses_added_file(checkpoint: Path) -> None:
    def audio_features(**options: str) -> str:
        return UltralightEngine(EngineSettings(Brought(files), options)).audio_features.partition(":")[0]

    files = {"generator": checkpoint}
    assert audio_features() == "ultralight-hubert"
    files = {"generator": checkpoint, "wenet": checkpoint}
    assert audio_features() == "ultralight-wenet"
    files = {"generator": checkpoint, "wenet": checkpoint, "hubert": checkpoint}
    with pytest.raises(ConfigError, match="'audio_encoder'"):
        audio_features()
    assert audio_features(audio_encoder="hubert") == "ultralight-hubert"
    with pytest.raises(ConfigError, match="(?s)ultralight.*paste"):
        audio_features(paste="hard")


def test_wenet_audio_encoder_is_loaded_from_added_file(tmp_path: Path) -> None:
    path = save_wenet(tmp_path / "file.onnx")
    engine = UltralightEngine(EngineSettings(Brought({"generator": path, "wenet": path}), {}))
    speech = tmp_path / "speech.npy"
    np.save(speech, np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16))
    span = FrameSpan(Fraction(25), 5, 3, 25)
    heard = engine.audio_encoder(ComputeResources()).encode(speech, measure_level(speech), span)
    assert heard.windows(Variant("wenet")).shape == (3, *Variant("wenet").audio_shape)


@pytest.mark.needs_cuda
def test_ultralight_cuda_equals_cpu(checkpoint: Path) -> None:
    rng = np.random.default_rng(2)
    faces = rng.integers(0, 256, (19, 160, 160, 3), dtype=np.uint8)
    audio = rng.normal(0, 0.4, (19, 16, 32, 32)).astype(np.float32)
    on_cpu = TorchGenerator(checkpoint, ComputeResources(), FP32).generate(faces, audio)
    generator = TorchGenerator(checkpoint, ComputeResources("cuda"), FP32)
    assert np.abs(generator.generate(faces, audio).astype(int) - on_cpu).max() <= 1
    assert np.array_equal(generator.generate(faces, audio), generator.generate(faces, audio))


@pytest.mark.parametrize("kind", ["hubert", "wenet"])
def test_ultralight_network_equals_published(reference: Callable[[str], Any], kind: AudioKind) -> None:
    stored = reference(f"ultralight_{kind}_core.npz")
    network = fill(UltralightNetwork(kind), stored).eval()
    pictures = torch.from_numpy(stored["in_x_u8"].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    shape = (len(pictures), *Variant(kind).audio_shape)
    audio = np.random.RandomState(int(stored["in_seed"]) + 2).uniform(-1, 1, shape).astype(np.float32)
    step = int(stored["out_stride"])
    with torch.inference_mode():
        out = network(pictures, torch.from_numpy(audio)).numpy()
    assert np.abs(out[:, :, ::step, ::step] - stored["out"]).max() < 1e-4


@pytest.mark.parametrize(
    "variant", [Variant(), Variant("hubert", 16), Variant("hubert", 8, 16), Variant("wenet"), Variant("wenet", 16)]
)
def test_variant_of_tensors_recognises_every_variant(variant: Variant) -> None:
    with torch.device("meta"):
        network = UltralightNetwork(variant.audio_kind, variant.num_frames, variant.width)
        out = network(torch.empty(2, 6, 160, 160), torch.empty(2, *variant.audio_shape))
    assert out.shape == (2, 3, 160, 160)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert variant_of_tensors(shapes) == variant
    found = variant_of_audio((1, *variant.audio_shape))
    assert found is not None
    assert (found.audio_kind, found.num_frames) == (variant.audio_kind, variant.num_frames)
    assert variant_of_tensors({"face_encoder_blocks.0.0.conv_block.0.weight": (16, 6, 7, 7)}) is None
    assert variant_of_audio((1, 1, 80, 16)) is variant_of_audio((1, 16, 16, 32)) is None


def test_published_names_maps_older_checkpoints() -> None:
    """LiveTalking's unet.py wraps two modules in a container of one."""
    network = UltralightNetwork(width=16)
    older = {
        name.replace("maxpool_conv.", "maxpool_conv.0.").replace("inc.inconv.", "inc.inconv.0."): tensor
        for name, tensor in network.state_dict().items()
    }
    assert set(older) != set(network.state_dict())
    network.load_state_dict(published_names(older))
