"""How Lipwright is wired.

    HTTP ── Ingress ── Director ──┬── AudioFeatures        speech -> features, once a job
            (HTTP API)   (jobs)   ├── LandmarkGenerator   frames -> track, once an avatar; features x track -> landmarks
                                  └── Studio x N ────────── FaceSynthesis x M   crops + landmarks -> faces (GPU)
                                      (decode, cut, paste back, encode one segment)

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
from deployments.studio import Studio
from models.engine import ENGINES, EngineMaker


def build(config: PipelineConfig) -> Application:
    """Return the whole service as one Serve application; `config` comes from `args:` in the Serve config."""
    return wire(config, ENGINES)


def wire(config: PipelineConfig, engines: Mapping[str, EngineMaker]) -> Application:
    """Return the service with these face engines, by the names that jobs give."""
    audio_features = AudioFeatures.bind(config)
    landmark_generator = LandmarkGenerator.bind(config)
    face_synthesis = FaceSynthesis.bind(config, engines)
    studio = Studio.bind(config, face_synthesis)
    director = Director.bind(config, audio_features, landmark_generator, studio, tuple(engines))
    return Ingress.bind(config, director)
