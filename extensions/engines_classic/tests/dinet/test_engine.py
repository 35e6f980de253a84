import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from classic_weights.dinet_exports import export_deepspeech, export_generator, export_wenet
from dinet_scenes import make_engine, make_speech, make_talker, spans
from lipwright.errors import WeightsError
from lipwright_engines_classic.dinet.crop import REFERENCES, CropLayout
from lipwright_engines_classic.dinet.engine import DinetEngine, DinetFeatures
from lipwright_engines_classic.dinet.generator import DinetFaceGenerator, HeyGemGenerator
from lipwright_engines_classic.dinet.network import DINet
from lipwright_engines_classic.dinet.torch_generator import DinetGenerator
from models.avatar.avatar import Avatar
from models.engines.paste.crop import BoxChunk
from models.engines.protocol import ComputeResources
from tests.unit.models.engines.paste.face_scene import NUM_FRAMES, analyse, make_frames, patch_bytes
from tests.unit.models.engines.reference import fill

ALL = np.arange(NUM_FRAMES, dtype=np.int32)
SMALL = CropLayout(104, 80, (32, 95), (8, 71), 96, "linear")
HEYGEM = CropLayout(256, 256, (86, 251), (37, 217), 256, "cubic")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dinet")
    parallel = {f"module.{name}": value for name, value in fill(DINet()).state_dict().items()}
    torch.save({"state_dict": {"net_g": parallel}}, folder / "o.pth")
    return {
        "heygem": export_generator(folder / "heygem.onnx"),
        "fixed": export_generator(folder / "fixed.onnx", batch=1, names=("z", "a", "m", "o")),
        "wenet": export_wenet(folder / "wenet.onnx"),
        "deepspeech": export_deepspeech(folder / "deepspeech.onnx"),
        "original": folder / "o.pth",
    }


def heygem(files: dict[str, Path], **options: Any) -> DinetEngine:
    return make_engine(options, generator=files["heygem"], speech=files["wenet"])


def analysed(engine: DinetEngine, folder: Path) -> Avatar:
    avatar = make_talker(folder)
    analyse(engine, avatar)
    return avatar


def chunk_of(engine: DinetEngine, avatar: Avatar, shown: NDArray[np.int32], windows: NDArray[np.float32]) -> BoxChunk:
    features = DinetFeatures(windows, np.ones(len(shown), np.float32))
    (span,) = spans(len(shown), [len(shown)])
    plan = engine.plan_frames(features, span, shown)
    pictures = make_frames()
    frames = [pictures[number] for number in shown]
    chunk: BoxChunk = pickle.loads(pickle.dumps(engine.crop(avatar, plan, frames)))
    return chunk


def said(num: int, height: int = 256, width: int = 20, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (num, height, width)).astype(np.float32)


def test_dinet_engine_generator_file_selects_variant(files: dict[str, Path], tmp_path: Path) -> None:
    engine = heygem(files)
    assert (engine.audio_features, engine.version) == ("wenet:wenet.onnx", "1-heygem-resize")
    assert heygem(files, exact_chunks=True).audio_features == "wenet-exact:wenet.onnx"
    original = make_engine(generator=files["original"], speech=files["deepspeech"])
    assert (original.audio_features, original.version) == ("deepspeech:deepspeech.onnx", "1-original")
    with_own = make_engine(generator=files["heygem"], landmarks=files["wenet"], detector=files["wenet"])
    assert with_own.version == "1-heygem-resize-landmarks_wenet.on-detector_wenet.on"
    assert make_engine(generator=files["heygem"], detector=files["wenet"]).version == "1-heygem-resize"
    assert make_engine().version == "1-heygem-resize"  # nothing brought yet
    with pytest.raises(WeightsError, match="missing.onnx"):
        make_engine(generator=tmp_path / "missing.onnx")
    with pytest.raises(WeightsError, match="no speech"):
        make_engine().audio_encoder(ComputeResources())


def test_heygem_generator_binds_inputs_by_position(files: dict[str, Path]) -> None:
    """.6 of the masked crop, .3 of the whole one and .1 of what is said, whatever the names."""
    crops = np.random.default_rng(1).integers(0, 256, (3, 256, 256, 3), np.uint8)
    windows = said(3)
    voice = 0.1 / (1 + np.exp(-windows.mean((1, 2))))[:, None, None, None]
    factor = np.full((256, 256, 1), 0.9)
    factor[86:252, 37:218] = 0.3
    expected = np.rint(np.clip(crops / 255 * factor + voice, 0, 1) * 255)
    for name, batch in (("heygem", 2), ("fixed", 1)):
        generator = HeyGemGenerator(files[name], ComputeResources(), HEYGEM, 2)
        assert generator.batch_size == batch
        assert np.abs(generator.generate(crops, windows) - expected).max() <= 1
    assert generator.generate(crops[:0], windows[:0]).shape == (0, 256, 256, 3)


def test_paste_and_mask_rows_options_set_changed_area(files: dict[str, Path], tmp_path: Path) -> None:
    def changed(**options: Any) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        engine = heygem(files, **options)
        chunk = chunk_of(engine, analysed(engine, tmp_path), ALL[:1], said(1))
        return engine.face_generator(ComputeResources()).generate(chunk).y[0] != chunk.y[0], chunk.boxes[0]

    (face, box), (mask, _), (rectangle, _) = (changed(paste=paste) for paste in ("face", "mask", "rectangle"))
    area = float(np.prod(box[2:] - box[:2]))
    assert face.sum() < 0.8 * mask.sum()
    assert mask.sum() < 1.05 * area * 30_046 / 65_536 < 0.8 * rectangle.sum()
    assert rectangle.sum() < 1.02 * area
    lower, box = changed(mask_rows=(128, 250), paste="mask")
    assert np.nonzero(lower)[0].min() >= (box[1] + box[3]) / 2 - 2


def test_original_engine_stores_references_and_windows(files: dict[str, Path], tmp_path: Path) -> None:
    engine = make_engine(generator=files["original"], speech=files["deepspeech"])
    avatar = analysed(engine, tmp_path)
    chunk = chunk_of(engine, avatar, ALL[:2], said(2, 29, 5))
    assert chunk.extra[REFERENCES].shape == (5, 416, 320, 3)
    assert len({picture.tobytes() for picture in chunk.extra[REFERENCES]}) == 5
    sides = chunk.boxes[:, 2:] - chunk.boxes[:, :2]
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], 416 / 320, rtol=1e-4)
    (span,) = spans(25, [25])
    heard = engine.audio_encoder(ComputeResources()).encode(*make_speech(tmp_path, 16_000), span)
    plan = engine.plan(avatar, heard, span, np.resize(ALL, 25), None).plan
    assert plan.features.shape == (25, 29, 5)
    assert plan.features.tobytes() == heard.windows.tobytes()


def test_original_generate_in_chunks_gives_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    engine = make_engine(generator=files["original"], speech=files["deepspeech"])
    avatar, windows = analysed(engine, tmp_path), said(4, 29, 5)
    small = np.ascontiguousarray(chunk_of(engine, avatar, ALL[:1], windows[:1]).extra[REFERENCES][:, ::4, ::4])

    def make() -> DinetFaceGenerator:
        generator = DinetGenerator(files["original"], ComputeResources(), SMALL, 2, "fp32")
        return DinetFaceGenerator(generator, SMALL, "face")

    def generated(face_generator: DinetFaceGenerator, rows: slice) -> list[bytes | None]:
        chunk = chunk_of(engine, avatar, ALL[rows], windows[rows])
        return patch_bytes(face_generator.generate(replace(chunk, extra={REFERENCES: small})))

    whole, other = generated(make(), slice(0, 4)), make()
    assert [*generated(other, slice(0, 1)), *generated(other, slice(1, 4))] == whole
    assert len(set(whole)) == 4


def test_original_generate_follows_references_and_speech(files: dict[str, Path]) -> None:
    """Speech, references and the frame each change the picture; what lies under the mask does not."""
    made = np.random.default_rng(2)
    crops, references = (made.integers(0, 256, (num, 104, 80, 3), np.uint8) for num in (1, 5))
    generator = DinetGenerator(files["original"], ComputeResources(), SMALL, 1, "auto")
    assert generator.dtype == torch.float32  # of random weights the result in half precision differs by far too much
    first = generator.generate(crops, references, said(1, 29, 5))
    assert (generator.generate(crops, references, said(1, 29, 5, seed=1)) != first).any()
    assert (generator.generate(crops, references[::-1].copy(), said(1, 29, 5)) != first).any()
    assert (generator.generate(crops, references, said(1, 29, 5)) == first).all()
    under = crops.copy()
    under[:, 32:96, 8:72] = 0
    assert (generator.generate(under, references, said(1, 29, 5)) == first).all()
    assert (generator.generate(255 - crops, references, said(1, 29, 5)) != first).any()
    half = DinetGenerator(files["original"], ComputeResources(), SMALL, 1, "fp32")
    half.dtype = torch.bfloat16
    assert 0 < np.abs(half.generate(crops, references, said(1, 29, 5)) - first.astype(int)).mean() < 25


@pytest.mark.needs_cuda
def test_dinet_cuda_equals_cpu(files: dict[str, Path]) -> None:
    made = np.random.default_rng(2)
    on_cuda = ComputeResources("cuda")
    crops, windows = made.integers(0, 256, (5, 256, 256, 3), np.uint8), said(5)
    expected = HeyGemGenerator(files["heygem"], ComputeResources(), HEYGEM, 2).generate(crops, windows)
    found = HeyGemGenerator(files["heygem"], on_cuda, HEYGEM, 2).generate(crops, windows)
    assert np.abs(found.astype(int) - expected).max() <= 1
    small, references, heard = crops[:, :104, :80].copy(), crops[:, -104:, -80:].copy(), said(5, 29, 5)
    cpu, cuda = (DinetGenerator(files["original"], on, SMALL, 2, "fp32") for on in (ComputeResources(), on_cuda))
    found, expected = (each.generate(small, references, heard) for each in (cuda, cpu))
    assert np.abs(found.astype(int) - expected).max() <= 2
    again = [cuda.generate(small[i : i + 1], references, heard[i : i + 1]) for i in range(5)]
    assert np.concatenate(again).tobytes() == found.tobytes()
