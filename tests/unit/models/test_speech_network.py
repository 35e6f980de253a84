"""The torch definition, the exporter and the shipped files are one thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")

from models.onnx_session import make_session
from models.training.export_speech import main, read_state
from models.training.speech_network import MouthEnsemble, SpeechEmbeddingTaps
from models.weights import weights_path


@pytest.fixture(scope="module")
def shipped() -> tuple[SpeechEmbeddingTaps, MouthEnsemble]:
    embedding, mouth = SpeechEmbeddingTaps().eval(), MouthEnsemble().eval()
    embedding.load_state_dict(read_state(weights_path("speech_embedding_taps.onnx"), embedding))
    mouth.load_state_dict(read_state(weights_path("speech_to_mouth.onnx"), mouth))
    return embedding, mouth


@pytest.mark.parametrize("num_frames", [2, 90])
def test_shipped_files_compute_what_the_definition_says(
    shipped: tuple[SpeechEmbeddingTaps, MouthEnsemble], num_frames: int
) -> None:
    mel = np.random.default_rng(2).normal(4, 1.5, (1, num_frames, 32)).astype(np.float32)
    with torch.no_grad():
        features = shipped[0](torch.from_numpy(mel))
        expected = shipped[1](features).numpy()
    first = make_session(weights_path("speech_embedding_taps.onnx"), num_threads=1, device="cpu")
    second = make_session(weights_path("speech_to_mouth.onnx"), num_threads=1, device="cpu")
    found = second.run(None, {"features": first.run(None, {"mel": mel})[0]})[0]
    assert found.shape == (1, num_frames // 2, 9)
    assert np.abs(found - expected).max() < 1e-4


def test_export_writes_the_shipped_weights_again(
    tmp_path: Path, shipped: tuple[SpeechEmbeddingTaps, MouthEnsemble]
) -> None:
    names = ("speech_embedding_taps", "speech_to_mouth")
    torch.save({name: net.state_dict() for name, net in zip(names, shipped, strict=True)}, tmp_path / "trained.pt")
    with pytest.warns(DeprecationWarning):  # torch prefers its newer exporter, which renames parameters
        main([str(tmp_path / "trained.pt"), str(tmp_path)])
    for name, network in zip(names, shipped, strict=True):
        state = read_state(tmp_path / f"{name}.onnx", network)
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_a_file_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="missing"):
        read_state(weights_path("speech_to_mouth.onnx"), SpeechEmbeddingTaps())
