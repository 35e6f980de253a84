"""Wires the deployments of Lipwright.

    HTTP ── Ingress ── Director ──┬── MediaProbe           inspects inputs before a job is accepted
            (HTTP API)   (jobs)   ├── SpeechSynthesis      texts -> speech, cue by cue
               │                  ├── AudioFeatures        speech -> features, block by block
               │                  ├── LandmarkGenerator    frames -> track, once; features x track -> plan
               │                  └── Studio x N ────────── FaceSynthesis x M   crops + plan -> faces (GPU)
               │                      (decode, crop, paste back, encode one segment)
               ├── LiveSession        streamed audio -> the next frames, encoded
               └── SpeechSynthesis    texts of live sessions -> speech

The engine that a job names defines features, plans, crops and faces: `models.engines.protocol`.

serve_config.yaml (GPU) and serve_config.cpu.yaml set replicas, CPU and GPU fractions, and queue lengths.
"""

from collections.abc import Mapping

from ray.serve import Application

from deployments.audio_features import AudioFeatures
from deployments.director import Director
from deployments.face_synthesis import FaceSynthesis
from deployments.ingress import Ingress
from deployments.landmark_generator import LandmarkGenerator
from deployments.live_session import LiveSession
from deployments.media_probe import MediaProbe
from deployments.speech_synthesis import SpeechSynthesis
from deployments.studio import Studio
from lipwright.config import PipelineConfig
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES


def build(config: PipelineConfig) -> Application:
    """Return the service as one Serve application; `config` is `args:` of the Serve config."""
    return wire(config, ENGINES)


def wire(config: PipelineConfig, engines: Mapping[str, str | EngineClass]) -> Application:
    """Return the service with these engines, by name."""
    media_probe = MediaProbe.bind(config)
    audio_features = AudioFeatures.bind(config, engines)
    landmark_generator = LandmarkGenerator.bind(config, engines)
    face_synthesis = FaceSynthesis.bind(config, engines)
    studio = Studio.bind(config, face_synthesis, engines)
    speech_synthesis = SpeechSynthesis.bind(config)
    director = Director.bind(config, media_probe, audio_features, landmark_generator, studio, speech_synthesis, engines)
    live_session = LiveSession.bind(config, engines)
    return Ingress.bind(config, director, live_session, speech_synthesis)
