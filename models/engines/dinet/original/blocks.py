"""The convolution blocks of DINet, with the published names of their parameters.

Structure: Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023; names and sizes as in MRzzm/DINet, models/DINet.py.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SameBlock1d(nn.Module):
    """Convolution, normalisation, ReLU over (B, C, T); `stride` 2 halves T."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_in, num_out, kernel, stride, kernel // 2)
        self.norm: nn.Module = nn.BatchNorm1d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, num_in, T) into (B, num_out, T / stride)."""
        return F.relu(self.norm(self.conv(x)))


class ResBlock1d(nn.Module):
    """Two convolutions over (B, C, T), each after its normalisation and ReLU, added to what went in."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(num, num, 3, padding=1)
        self.conv2 = nn.Conv1d(num, num, 3, padding=1)
        self.norm1 = nn.BatchNorm1d(num)
        self.norm2: nn.Module = nn.BatchNorm1d(num)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, num, T) into the same shape."""
        inner = self.conv1(F.relu(self.norm1(x)))
        added: Tensor = x + self.conv2(F.relu(self.norm2(inner)))
        return added


class SameBlock2d(nn.Module):
    """Convolution, normalisation, ReLU over (B, C, H, W); `stride` 2 halves H and W, `grow` 2 doubles them first."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 3, stride: int = 1, grow: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2)
        self.norm: nn.Module = nn.BatchNorm2d(num_out)
        self.grow = grow

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, num_in, H, W) into (B, num_out, H * grow / stride, W * grow / stride)."""
        if self.grow > 1:
            x = F.interpolate(x, scale_factor=self.grow, mode="nearest")
        return F.relu(self.norm(self.conv(x)))


class ResBlock2d(nn.Module):
    """Two convolutions over (B, C, H, W), each after its normalisation and ReLU, added to what went in."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num, num, 3, padding=1)
        self.conv2 = nn.Conv2d(num, num, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(num)
        self.norm2: nn.Module = nn.BatchNorm2d(num)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, num, H, W) into the same shape."""
        inner = self.conv1(F.relu(self.norm1(x)))
        added: Tensor = x + self.conv2(F.relu(self.norm2(inner)))
        return added
