"""Additional networks share in the corners of the mouth, and in nothing else."""

from __future__ import annotations

import torch

from models.mouth.shape import CHANNELS
from training.corners.train_corners import with_corners
from training.speech_network import NUM_FEATURES, MouthEnsemble, MouthTcn

CORNERS = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]


def test_corners_are_the_mean_of_all_networks_and_the_rest_stays() -> None:
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
