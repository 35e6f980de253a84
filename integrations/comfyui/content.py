"""Converts ComfyUI data to files."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def wav_of(audio: dict[str, Any]) -> bytes:
    """Return a 16-bit WAV file.

    Args:
        audio: ComfyUI's AUDIO: `waveform` (1, channels, samples) float, full scale 1; `sample_rate` in Hz.

    Raises:
        ValueError: The batch size is not one, or the audio is empty.
    """
    waveform = audio["waveform"]
    if waveform.ndim != 3 or waveform.shape[0] != 1 or waveform.shape[2] == 0:
        raise ValueError(f"audio: expected shape (1, channels, samples), found {tuple(waveform.shape)}.")
    samples = np.clip(waveform[0].float().cpu().numpy(), -1.0, 1.0)
    interleaved = np.rint(samples.T * 32767).astype("<i2")  # (samples, channels)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(interleaved.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(audio["sample_rate"]))
        file.writeframes(interleaved.tobytes())
    return buffer.getvalue()


def png_of(image: Any) -> bytes:
    """Return a PNG of a ComfyUI IMAGE: (1, height, width, 3 or 4) float in [0, 1], RGB or RGBA."""
    pixels = np.rint(np.clip(image[0].float().cpu().numpy(), 0.0, 1.0) * 255).astype(
        np.uint8
    )  # (height, width, channels)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(buffer, "PNG")
    return buffer.getvalue()


def write_frames(images: Any, fps: float, path: Path) -> None:
    """Write the frames of a ComfyUI IMAGE as an MP4 with ComfyUI's encoder."""
    from comfy_api.latest import InputImpl, Types

    rate = Fraction(fps).limit_denominator(1001)
    components = Types.VideoComponents(images=images[..., :3], frame_rate=rate)
    InputImpl.VideoFromComponents(components).save_to(str(path))
