"""How Lipwright is wired.

    HTTP ── Ingress ── Director ──┬── MediaProbe           what a file is, before anything is promised
            (HTTP API)   (jobs)   ├── AudioFeatures        speech -> features, block by block
               │                  ├── LandmarkGenerator    frames -> track, once; features x track -> landmarks
               │                  └── Studio x N ────────── FaceSynthesis x M   crops + landmarks -> faces (GPU)
               │                      (decode, cut, paste back, encode one segment)
               └── LiveSession        sound that is still coming -> the next frames, encoded (CPU)

What is heard, planned, cut and painted is up to the engine that a job names: `models.engines.protocol`.

How much of each (replicas, CPU and GPU fractions, queues) stands in serve_config.yaml and its twin for machines
without a GPU, serve_config.cpu.yaml.
"""

from collections.abc import Mapping

from ray.serve import Application

from config import PipelineConfig
from deployments.audio_features import AudioFeatures
from deployments.director import Director
from deployments.face_synthesis import FaceSynthesis
from deployments.ingress import Ingress
from deployments.landmark_generator import LandmarkGenerator
from deployments.live_session import LiveSession
from deployments.media_probe import MediaProbe
from deployments.studio import Studio
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES


def build(config: PipelineConfig) -> Application:
    """Return the whole service as one Serve application; `config` comes from `args:` in the Serve config."""
    return wire(config, ENGINES)


def wire(config: PipelineConfig, engines: Mapping[str, str | EngineClass]) -> Application:
    """Return the service with these engines, by the names that jobs give."""
    media_probe = MediaProbe.bind(config)
    audio_features = AudioFeatures.bind(config, engines)
    landmark_generator = LandmarkGenerator.bind(config, engines)
    face_synthesis = FaceSynthesis.bind(config, engines)
    studio = Studio.bind(config, face_synthesis, engines)
    director = Director.bind(config, media_probe, audio_features, landmark_generator, studio, engines)
    live_session = LiveSession.bind(config, engines)
    return Ingress.bind(config, director, live_session)
