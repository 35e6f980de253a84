"""MuseTalk in its published size: 3.8 GB on disk, half a minute to create, 14 to 24 s per frame on a CPU."""

from pathlib import Path

import torch

from models.engines.musetalk.network import PUBLISHED, make_unet, make_vae
from models.engines.musetalk.weights import UNET, VAE, WHISPER
from models.engines.musetalk.whisper import WHISPER_TINY, WhisperEncoder
from models.engines.runtime.checkpoints import shapes_of
from tests.random_weights.parameters import made_up


def save_musetalk(folder: Path) -> dict[str, Path]:
    """Writes the three files and returns them by role; needs the extra `musetalk`."""
    with torch.device("meta"):
        whisper = {f"model.encoder.{name}": shape for name, shape in shapes_of(WhisperEncoder(WHISPER_TINY)).items()}
    shapes = {UNET: shapes_of(make_unet(PUBLISHED)), VAE: shapes_of(make_vae(PUBLISHED)), WHISPER: whisper}
    paths = {role: folder / f"{role}.pth" for role in shapes}
    for role, path in paths.items():
        torch.save(made_up(shapes[role]), path)
    return paths
