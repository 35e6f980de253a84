"""The weights that the graph tests bring: one of each kind, added as `lipwright models` adds it."""

from __future__ import annotations

from pathlib import Path

from models.engines.weights.store import WeightsStore
from tests.random_weights.dinet import save_dinet
from tests.random_weights.dinet_exports import export_deepspeech, export_generator, export_wenet
from tests.random_weights.edtalk import save_edtalk
from tests.random_weights.restoration import save_restoration
from tests.random_weights.ultralight import save_hubert, save_ultralight, save_wenet
from tests.random_weights.wav2lip import save_wav2lip, save_wav2lip_onnx

FRAMES = {
    "wav2lip": 26,
    "wav2lip:onnx": 10,
    "dinet": 26,
    "dinet:original": 3,
    "ultralight": 26,
    "ultralight:wenet": 10,
    "edtalk": 26,
    "edtalk+restoration": 10,
}
"""The engines, variants and steps on top, and how many frames each is asked for: few of the slow ones."""


def bring_weights(store: WeightsStore, folder: Path) -> None:
    """Add weights for all of `FRAMES` to a store; the files are made in `folder`."""
    files = {
        "wav2lip": (save_wav2lip(folder / "wav2lip.pth"),),
        "wav2lip:onnx": (save_wav2lip_onnx(folder / "wav2lip.onnx"),),
        "dinet": (export_generator(folder / "dinet_v1.onnx"), export_wenet(folder / "wenet.onnx")),
        "dinet:original": (save_dinet(folder / "dinet.pth"), export_deepspeech(folder / "deepspeech.onnx")),
        "ultralight": (save_ultralight(folder / "anna.pth"), save_hubert(folder / "hubert.onnx")),
        "ultralight:wenet": (save_ultralight(folder / "bert.pth", "wenet"), save_wenet(folder / "encoder.onnx")),
        "edtalk": (save_edtalk(folder / "edtalk_256.onnx"),),
        "restoration": (save_restoration(folder / "GFPGANv1.4.onnx"),),
    }
    for name, paths in files.items():
        engine, _, variant = name.partition(":")
        for path in paths:
            store.add(path, engine, variant or None)
            path.unlink()
