"""Loads the networks of MuseTalk onto a machine."""

from __future__ import annotations

import torch

from models.engines.compute.checkpoints import read_checkpoint
from models.engines.compute.torch_device import open_device
from models.engines.contract import EngineWeights, Machine
from models.engines.musetalk.architecture import PUBLISHED, Architecture, make_unet, make_vae
from models.engines.musetalk.face_networks import FaceNetworks
from models.engines.musetalk.listener import WhisperListener
from models.engines.musetalk.network_weights import fill
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.painter import MuseTalkPainter
from models.engines.musetalk.precision import in_fitting_precision
from models.engines.musetalk.roles import UNET, VAE, WHISPER
from models.engines.musetalk.whisper_encoder import WHISPER_TINY, WhisperEncoder, WhisperShape, encoder_tensors


def load_listener(weights: EngineWeights, machine: Machine, shape: WhisperShape = WHISPER_TINY) -> WhisperListener:
    """Load Whisper's encoder.

    Raises:
        WeightsError: The file is missing or another network's.
        ConfigError: The device was asked for and cannot be used.
    """
    device = open_device(machine)
    path = weights.path(WHISPER)
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    fill(encoder, encoder_tensors(read_checkpoint(path)), path)
    return WhisperListener(encoder.to(device))


def load_painter(
    weights: EngineWeights, options: MuseTalkOptions, machine: Machine, architecture: Architecture = PUBLISHED
) -> MuseTalkPainter:
    """Load the U-Net and the VAE, in the precision that their weights allow.

    Raises:
        WeightsError: A file is missing or another network's.
        ConfigError: The device was asked for and cannot be used.
    """
    device = open_device(machine)
    unet = make_unet(architecture, weights.path(UNET))
    vae = make_vae(architecture, weights.path(VAE))
    networks = in_fitting_precision(FaceNetworks(unet, vae, architecture, device), options.precision)
    del unet, vae
    if device.type == "cuda":
        torch.cuda.empty_cache()  # fp32 weights that were only compared with
    return MuseTalkPainter(networks, options)
