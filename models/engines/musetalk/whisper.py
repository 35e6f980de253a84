"""The encoder of Whisper tiny with the outputs of all its layers, and the log-mel spectrum that it reads.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Names are those of transformers
(`models/whisper/modeling_whisper.py`); parameters of a file of OpenAI's own (`whisper/model.py`) are renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as functional
from torch import Tensor, nn, stack

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.speech.features import mel_bank

WINDOW_SECONDS: Final = 30
WINDOW_SAMPLES: Final = WINDOW_SECONDS * SPEECH_SAMPLE_RATE
NUM_BANDS: Final = 80
# whisper/audio.py: 25 ms Hann window, 10 ms hop; decimal logarithm, at most 8 below the loudest of the window, plus 4,
# over 4. The frame at the end of the window is left out.
_FFT_SAMPLES, _HOP_SAMPLES = 400, 160
_RANGE, _TINY_POWER = 8.0, 1e-10


def log_mel(samples: Tensor) -> Tensor:
    """Compute the (80, 3000) float32 spectrum, about -1.5 to 1.5, of a window: (480000,) float32 in [-1, 1).

    It equals `WhisperFeatureExtractor` of transformers (`models/whisper/feature_extraction_whisper.py`), which MuseTalk
    uses, to 1e-4. `models.speech.features` differs from it on purpose: there no row depends on sounds far from it.
    """
    if samples.shape != (WINDOW_SAMPLES,):
        raise ValueError(f"Expected ({WINDOW_SAMPLES},) samples, got {tuple(samples.shape)}.")
    window = torch.hann_window(_FFT_SAMPLES, device=samples.device)
    spectrum = torch.stft(samples, _FFT_SAMPLES, _HOP_SAMPLES, window=window, return_complex=True)  # (201, 3001)
    power = torch.from_numpy(mel_bank(_FFT_SAMPLES)).to(samples.device) @ spectrum[:, :-1].abs().square()  # (80, 3000)
    levels = power.clamp(min=_TINY_POWER).log10()
    return (torch.maximum(levels, levels.max() - _RANGE) + 4) / 4


@dataclass(frozen=True)
class WhisperShape:
    """Sizes of an encoder; the defaults are those of Whisper tiny (whisper/model.py, `dims` in tiny.pt)."""

    width: int = 384  # channels of a row
    num_heads: int = 6  # heads of attention
    num_layers: int = 4  # transformer layers
    num_rows: int = 1500  # rows of one window; half as many as mel frames


WHISPER_TINY: Final = WhisperShape()

_ENCODER_PREFIX = re.compile(r"^(?:model\.)?encoder\.")
_OPENAI_NAMES: Final = (
    (re.compile(r"^blocks\.(\d+)\."), r"layers.\1."),
    (re.compile(r"\.attn\.query\."), ".self_attn.q_proj."),
    (re.compile(r"\.attn\.key\."), ".self_attn.k_proj."),
    (re.compile(r"\.attn\.value\."), ".self_attn.v_proj."),
    (re.compile(r"\.attn\.out\."), ".self_attn.out_proj."),
    (re.compile(r"\.attn_ln\."), ".self_attn_layer_norm."),
    (re.compile(r"\.mlp\.0\."), ".fc1."),
    (re.compile(r"\.mlp\.2\."), ".fc2."),
    (re.compile(r"\.mlp_ln\."), ".final_layer_norm."),
    (re.compile(r"^ln_post\."), "layer_norm."),
    (re.compile(r"^positional_embedding$"), "embed_positions.weight"),
)


class _Attention(nn.Module):
    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self._num_heads = shape.num_heads
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width)
        self.q_proj = nn.Linear(shape.width, shape.width)
        self.out_proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        batch, rows, width = x.shape
        return x.view(batch, rows, self._num_heads, width // self._num_heads).transpose(1, 2)  # (B, H, N, width / H)


class _Layer(nn.Module):
    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, 4 * shape.width)
        self.fc2 = nn.Linear(4 * shape.width, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        changed: Tensor = x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return changed


class WhisperEncoder(nn.Module):
    """Log-mel of one window -> the outputs of the convolutions and of every layer, a row every 20 ms."""

    def __init__(self, shape: WhisperShape = WHISPER_TINY) -> None:
        super().__init__()
        self.shape = shape
        self.conv1 = nn.Conv1d(NUM_BANDS, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.num_rows, shape.width)
        self.layers = nn.ModuleList([_Layer(shape) for _ in range(shape.num_layers)])
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(self, mel: Tensor) -> Tensor:
        """Compute all hidden states of (B, 80, 2 N) mel, N = `shape.num_rows`.

        Returns:
            (B, N, layers + 1, width): the convolutions with the positions added, then the layers; the last one as it
            leaves the encoder, that is after the closing norm, which is how transformers counts hidden states.
        """
        x = functional.gelu(self.conv1(mel))
        x = functional.gelu(self.conv2(x)).transpose(1, 2)  # (B, N, width)
        states = [x + self.embed_positions.weight]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states[-1] = self.layer_norm(states[-1])
        return stack(states, dim=2)


def encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors of a Whisper file under the names of `WhisperEncoder`.

    The file's names are those of transformers (`model.encoder.*` or `encoder.*`) or of OpenAI (`encoder.blocks.*`).
    """
    found = {}
    for name, tensor in tensors.items():
        if _ENCODER_PREFIX.match(name):
            found[_published_name(_ENCODER_PREFIX.sub("", name))] = tensor
    return found


def _published_name(name: str) -> str:
    for pattern, replacement in _OPENAI_NAMES:
        name = pattern.sub(replacement, name)
    return name
