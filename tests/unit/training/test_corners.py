"""The width is refitted, and additional networks share in the corners of the mouth, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("onnx")

from models.mouth.shape import CHANNELS
from training.corners import WidthFit, with_corners, with_width_head
from training.speech_examples import Example
from training.speech_network import NUM_FEATURES, MouthEnsemble, MouthTcn

WIDTH = CHANNELS.index("width")
CORNERS = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]


def _network() -> MouthEnsemble:
    torch.manual_seed(2)
    return MouthEnsemble().eval()


def _examples(network: MouthEnsemble, names: list[str], sign: float) -> list[Example]:
    """Speakers whose width is a part of the hidden layer."""
    rng, examples = np.random.default_rng(len(names)), []
    for name in names:
        features = rng.normal(size=(120, NUM_FEATURES)).astype(np.float16)
        with torch.no_grad():
            hidden = network(torch.from_numpy(features[None].astype(np.float32)))[1][0].numpy()
        mouth = np.zeros((120, 9), np.float32)
        layer = hidden - hidden.mean(0)
        mouth[:, WIDTH] = sign * 3 * layer[:, :40].sum(1) / layer[:, :40].sum(1).std()
        examples.append(Example("clean", name, features, mouth))
    return examples


def _widths(network: MouthEnsemble, example: Example) -> NDArray[np.float32]:
    with torch.no_grad():
        shape = network(torch.from_numpy(example.features[None].astype(np.float32)))[0]
    return np.asarray(shape[0, :, WIDTH], np.float32)


def test_with_width_head_changes_only_the_width() -> None:
    network = _network()
    seen, unseen = _examples(network, ["a", "b", "c", "d", "e"], 1), _examples(network, ["z"], 1)[0]
    refitted = with_width_head(network, WidthFit(network, [seen], [1]).solve())
    before, after = (np.corrcoef(_widths(n, unseen), unseen.mouth[:, WIDTH])[0, 1] for n in (network, refitted))
    assert after > 0.6 > before + 0.2
    features = torch.from_numpy(unseen.features[None].astype(np.float32))
    with torch.no_grad():
        old, new = network(features), refitted(features)
    others = [channel for channel in range(9) if channel != WIDTH]
    assert torch.equal(old[0][..., others], new[0][..., others])
    assert torch.equal(old[1], new[1])


def test_width_fit_weights_corpora_and_skips_left_out_speaker() -> None:
    network = _network()
    wide, narrow = _examples(network, ["a", "b"], 1), _examples(network, ["c"], -1)
    mostly_wide = WidthFit(network, [wide, narrow], [0.9, 0.1])
    rows, truth = mostly_wide.hidden(wide[0]), wide[0].mouth[:, WIDTH]
    assert np.corrcoef(rows @ mostly_wide.solve(), truth)[0, 1] > 0.6
    assert np.corrcoef(rows @ WidthFit(network, [wide, narrow], [0.1, 0.9]).solve(), truth)[0, 1] < -0.2
    alone = WidthFit(network, [wide, narrow], [0.1, 0.9])
    assert not np.allclose(alone.solve(), alone.solve(left_out="b"))


def test_with_corners_averages_the_corner_channels_only() -> None:
    torch.manual_seed(3)
    base, added = MouthEnsemble().eval(), [MouthTcn().eval() for _ in range(2)]
    joined = with_corners(base, added)
    features = torch.randn(1, 90, NUM_FEATURES)
    with torch.no_grad():
        before, after = base(features), joined(features)
        every = torch.stack([member(features) for member in (*base.members, *added)]).mean(0)
    others = [output for output in range(9) if output not in CORNERS]
    assert torch.allclose(after[0][..., others], before[0][..., others], atol=1e-5)
    assert torch.allclose(after[0][..., CORNERS], every[..., CORNERS], atol=1e-5)
    assert after[1].shape == (1, 90, 5 * 96)
    # Speaker adaptation counts on a hidden layer of the same norm, however many networks there are.
    assert 0.5 < after[1].square().sum() / before[1].square().sum() < 2
