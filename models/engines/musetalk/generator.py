"""Generates the faces of a chunk: holds the networks and the latents of the avatars seen last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.engines.musetalk.network import (
    PUBLISHED,
    Architecture,
    FaceNetworks,
    in_fitting_precision,
    make_unet,
    make_vae,
)
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.weights import UNET, VAE
from models.engines.paste.blend import paste
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import Interpolation, box_rgb
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, EngineWeights
from models.engines.runtime.batching import fixed_batches
from models.engines.runtime.cache import LruCache, content_key
from models.engines.runtime.device_feed import DeviceBatches
from models.engines.runtime.torch_device import open_device

# One face keeps a CPU busy for seconds; a GPU needs several. `models.engines.runtime.batching` says why batches are
# always this large.
_BATCH: Final = {"cpu": 1, "cuda": 8}
# The networks were trained on pictures reduced by PIL, which averages the pixels that it merges; the published script
# reduces them with OpenCV's Lanczos, which does not. Mean difference from PIL in levels on a photograph, Lanczos and
# area: 0.5 and 0.7 at a box 1.5 times the picture, 1.1 and 0.6 at 2, 2.3 and 1.3 at 4. An avatar's regions all have one
# side, so nothing changes from frame to frame.
_LARGE_REGION: Final = 1.7


class MuseTalkFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`.

    The latents of a source frame depend only on its picture, and the frames of an avatar recur: when its source is
    played back and forth, and in the next job. Latents are cached by the content of the picture, on the device, 16 kB
    per frame in half precision. A source longer than the cache gains nothing, because each frame is evicted before it
    recurs. Encoding is about half of the work of a frame.
    """

    def __init__(self, networks: FaceNetworks, options: MuseTalkOptions) -> None:
        self._networks = networks
        self._options = options
        self._batch = options.batch_size or _BATCH[networks.device.type]
        self._batches = DeviceBatches(networks.device, self._batch)
        self._latents: LruCache[Tensor] = LruCache(options.max_kept_latents)

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of `chunk`; the same chunk gives the same bytes."""
        size = self._networks.architecture.picture_size
        faces = np.empty((chunk.num_faces, size, size, 3), np.uint8)
        if chunk.num_faces:
            self._fill(faces, chunk, self._crop_latents(chunk, size, should_stop), should_stop)
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)

    def _fill(
        self, faces: NDArray[np.uint8], chunk: BoxChunk, latents: Tensor, should_stop: Callable[[], bool]
    ) -> None:
        """Generate all faces of a chunk, given the latents of its K crops."""

        def render(crop: Tensor, features: Tensor) -> Tensor:
            return self._networks.render(latents[crop], features)

        rows = (chunk.crop.astype(np.int64), chunk.features)
        # `render` knows the latents of this chunk alone.
        self._batches.fill(faces, rows, render, should_stop, together=None)

    def _crop_latents(self, chunk: BoxChunk, size: int, should_stop: Callable[[], bool]) -> Tensor:
        """(K, 8, S / 8, S / 8) latents of the chunk's crops, from the cache if possible."""
        _, first = np.unique(chunk.crop, return_index=True)
        interpolation: Interpolation = "area" if chunk.region_size > _LARGE_REGION * size else "lanczos"
        pictures = box_rgb(chunk, size, interpolation)[first]  # (K, S, S, 3)
        keys = [content_key(picture) for picture in pictures]
        found = {key: latents for key in keys if (latents := self._latents.get(key)) is not None}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            for i, latents in zip(missing, self._encode(pictures[missing], should_stop), strict=True):
                found[keys[i]] = latents
                self._latents.put(keys[i], latents)
        return torch.stack([found[key] for key in keys])

    def _encode(self, pictures: NDArray[np.uint8], should_stop: Callable[[], bool]) -> list[Tensor]:
        encoded: list[Tensor] = []
        for (batch,), num in fixed_batches((pictures,), self._batch, should_stop):
            # Copies: a view would keep the whole batch in memory.
            encoded.extend(latents.clone() for latents in self._networks.encode(torch.from_numpy(batch))[:num])
        return encoded


def load_face_generator(
    weights: EngineWeights,
    options: MuseTalkOptions,
    resources: ComputeResources,
    architecture: Architecture = PUBLISHED,
) -> MuseTalkFaceGenerator:
    """Load the U-Net and the VAE, in the precision that their weights allow.

    Raises:
        WeightsError: A file is missing or another network's.
        ConfigError: The requested device is not available.
    """
    device = open_device(resources)
    unet = make_unet(architecture, weights.path(UNET))
    vae = make_vae(architecture, weights.path(VAE))
    networks = in_fitting_precision(FaceNetworks(unet, vae, architecture, device), options.precision)
    del unet, vae
    if device.type == "cuda":
        torch.cuda.empty_cache()  # fp32 weights that were only needed for the comparison
    return MuseTalkFaceGenerator(networks, options)
