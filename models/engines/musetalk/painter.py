"""Paints the faces of a chunk: holds the networks and the latents of the presenters seen last."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.engines.box.box_chunk import BoxChunk
from models.engines.box.paste import paste
from models.engines.box.picture import box_rgb
from models.engines.musetalk.content_cache import ContentCache
from models.engines.musetalk.face_networks import FaceNetworks
from models.engines.musetalk.options import MuseTalkOptions
from models.face_chunk import FacePatches

# Batches are always this large, the last one filled up with its last face: libraries choose their algorithm by the
# shape, and a face would else be painted a little differently depending on what else is in its chunk. One face keeps a
# CPU busy; a GPU needs several.
_BATCH: Final = {"cpu": 1, "cuda": 8}


class MuseTalkPainter:
    """Crops in, finished patches out.

    The latents of a source frame depend on nothing but its picture, and a presenter's frames come again and again: in a
    source that is played to and fro, and in the next job. They are kept by the content of the picture, on the device,
    16 kB a frame in half precision. A source longer than what is kept gains nothing, as each frame has left when it
    comes again. Encoding is 45 % of the work of a frame (measured on one core: 5 s of 11 s).

    Args:
        networks: On their device, in their precision.
        options: The engine's.
    """

    def __init__(self, networks: FaceNetworks, options: MuseTalkOptions) -> None:
        self._networks = networks
        self._options = options
        self._batch = options.batch_size or _BATCH[networks.device.type]
        self._latents: ContentCache[Tensor] = ContentCache(options.max_kept_latents)

    def paint(self, chunk: BoxChunk) -> FacePatches:
        """Return one patch for every face of `chunk`; the same chunk gives the same bytes."""
        size = self._networks.architecture.picture_size
        faces = np.empty((chunk.num_faces, size, size, 3), np.uint8)
        if chunk.num_faces:
            latents = self._crop_latents(chunk, size)
            crops = torch.from_numpy(chunk.crop.astype(np.int64)).to(latents.device)
            drive = torch.from_numpy(chunk.drive)
            for start, stop, rows in self._batches(chunk.num_faces):
                painted = self._networks.render(latents[crops[rows.to(crops.device)]], drive[rows])
                faces[start:stop] = painted[: stop - start].cpu().numpy()
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)

    def _crop_latents(self, chunk: BoxChunk, size: int) -> Tensor:
        """(K, 8, S / 8, S / 8) latents of the chunk's crops, those that were seen before from memory."""
        _, first = np.unique(chunk.crop, return_index=True)
        pictures = box_rgb(chunk, size, "lanczos")[first]  # (K, S, S, 3)
        keys = [self._latents.key(picture) for picture in pictures]
        found = {key: self._latents.get(key) for key in keys}
        missing = [i for i, key in enumerate(keys) if found[key] is None]
        for number, latents in zip(missing, self._encode(pictures[missing]), strict=True):
            found[keys[number]] = latents
            self._latents.put(keys[number], latents)
        return torch.stack([tensor for key in keys if (tensor := found[key]) is not None])

    def _encode(self, pictures: NDArray[np.uint8]) -> list[Tensor]:
        encoded: list[Tensor] = []
        for start, stop, rows in self._batches(len(pictures)):
            latents = self._networks.encode(torch.from_numpy(pictures)[rows])
            encoded.extend(part.clone() for part in latents[: stop - start])
        return encoded

    def _batches(self, num: int) -> list[tuple[int, int, Tensor]]:
        """First and last of each batch of `num` rows, and which rows fill it."""
        starts = range(0, num, self._batch)
        return [
            (start, min(start + self._batch, num), torch.arange(start, start + self._batch).clamp(max=num - 1))
            for start in starts
        ]
