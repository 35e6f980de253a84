import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lipwright_engines_classic.dinet.network import ChannelWarp, DINet, mix_channels
from models.engines.runtime.torch_device import fold_batch_norm
from tests.unit.models.engines.reference import fill, random_pictures


def test_channel_warp_equals_published_3d_sampling() -> None:
    torch.manual_seed(0)
    warp, features, params = ChannelWarp(6, 5), torch.randn(2, 5, 7, 9), torch.randn(2, 6)
    with torch.no_grad():
        shared = warp.commn_linear(params)
        scale, angle, shift = warp.scale(shared) * 2, warp.rotation(shared) * 3.14159, warp.translation(shared)
        expected = _sampled_in_3d(features, scale, angle, shift.view(2, 5, 2))
        np.testing.assert_allclose(warp(features, params), expected, atol=1e-5)
        one = features[:1]
        np.testing.assert_allclose(warp(one, params)[1], warp(one.expand(2, -1, -1, -1), params)[1], atol=1e-6)
    mixed = mix_channels(torch.ones(1, 8, 1, 1))[0, :, 0, 0]
    np.testing.assert_allclose(mixed[[0, -1]], 0.5, atol=1e-6)
    np.testing.assert_allclose(mixed[1:-1], 1, atol=1e-6)


def test_fold_batch_norm_keeps_dinet_output() -> None:
    network = fill(DINet()).eval()
    inputs = torch.rand(1, 3, 64, 48), torch.rand(1, 15, 64, 48), torch.randn(1, 29, 5)
    with torch.inference_mode():
        expected = network(*inputs)
        assert fold_batch_norm(network) == 24 + 11  # convolutions with a normalisation of their own, residual blocks
        np.testing.assert_allclose(network(*inputs), expected, atol=1e-3)
    kept = torch.nn.modules.batchnorm._BatchNorm
    left = [name for name, module in network.named_modules() if isinstance(module, kept)]
    assert all(name.endswith("norm1") for name in left)
    assert len(left) == 11


def test_know_once_then_speak_equals_forward() -> None:
    network = fill(DINet()).eval()
    source, reference, speech = torch.rand(2, 3, 64, 48), torch.rand(1, 15, 64, 48), torch.randn(2, 29, 5)
    with torch.inference_mode():
        together = network.speak(source, network.know(reference), speech)
        alone = network(source[1:], reference, speech[1:])
    np.testing.assert_allclose(together[1:], alone, atol=1e-3)
    assert float((together[0] - together[1]).abs().max()) > 0.01


@pytest.mark.slow
def test_dinet_equals_published_network(reference: Callable[[str], Any]) -> None:
    stored = reference("dinet_core.npz")
    network = fill(DINet(), stored).eval()
    seed = int(stored["in_seed"])
    source = random_pictures(1, 416, 320, seed)
    source[:, 128:384, 32:288] = 0
    assert zlib.crc32(source.tobytes()) == int(stored["in_source_crc32"])
    seen = _tensor(random_pictures(5, 416, 320, seed + 1)).reshape(1, 15, 416, 320)
    step = int(stored["out_stride"])
    with torch.inference_mode():
        out = network(_tensor(source), seen, torch.from_numpy(stored["in_audio"]))
    np.testing.assert_allclose(out[:, :, ::step, ::step], stored["out"], atol=1e-3)  # processors differ by 2e-4


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def _sampled_in_3d(features: Tensor, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """The published operator, point by point: (B, C, H, W) features by (B, C) scale and angle, (B, C, 2) shift."""
    num, channels, height, width = features.shape
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in (channels, height, width)), indexing="ij")
    cosine, sine = (part[..., None, None] for part in (angle.cos(), angle.sin()))
    size, (right, down) = scale[..., None, None], shift[..., None, None].unbind(2)
    grid = [(cosine * x - sine * y) * size + right, (sine * x + cosine * y) * size + down, z.expand(num, -1, -1, -1)]
    return F.grid_sample(features[:, None], torch.stack(grid, -1), align_corners=False)[:, 0]
