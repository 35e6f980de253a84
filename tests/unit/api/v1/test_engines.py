"""GET /v1/engines over a real socket: what there is, and what has to be brought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import make_app
from api.v1.routes.engines import EngineRoutes
from config import PipelineConfig
from models.engines.weights.store import WeightsStore
from speech.service import tts_service
from storage.file_store import FileStore
from tests.unit.api_server import MemoryService, running
from tests.unit.models.engines.weights.toy_engines import ENGINES
from tests.unit.models.engines.weights.weights_files import safetensors_file


@pytest.fixture
def http(tmp_path: Path) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.include_router(EngineRoutes(FileStore(tmp_path), PipelineConfig(engine="free"), ENGINES).router())
    with running(app) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def test_engines_and_what_they_lack(http: httpx.Client, tmp_path: Path) -> None:
    answer = http.get("/v1/engines")
    assert answer.status_code == 200, answer.text
    free, toy = answer.json()["engines"]
    assert free == {
        "name": "free",
        "scales_movement": False,
        "title": "Free faces",
        "is_default": True,
        "is_installed": True,
        "missing": [],
        "licences": [],
    }
    assert (toy["name"], toy["is_default"], toy["is_installed"]) == ("toy", False, False)
    assert toy["missing"][0] == {
        "role": "generator",
        "title": "Toy generator",
        "is_required": True,
        "add_command": "lipwright models add FILE_OR_URL --engine toy --role generator",
    }
    assert [role["is_required"] for role in toy["missing"]] == [True, False]
    assert toy["licences"][0] == "Toy generator: Personal and research use only."
    assert str(tmp_path) not in answer.text


def test_what_is_added_meanwhile_is_there(http: httpx.Client, tmp_path: Path) -> None:
    store = WeightsStore(tmp_path / "weights", ENGINES)
    store.add(safetensors_file(tmp_path / "w"))
    store.add(safetensors_file(tmp_path / "v", fill=1), name="gan")
    engines = {each["name"]: each for each in http.get("/v1/engines").json()["engines"]}
    assert list(engines) == ["free", "toy", "toy:gan"]
    assert engines["toy"]["is_installed"] and engines["toy:gan"]["is_installed"]
    assert [role["role"] for role in engines["toy"]["missing"]] == ["mixer"]


def test_the_api_has_it_behind_its_key(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    try:
        config = PipelineConfig()
        schema = make_app(service, service.files, config, tts_service(config.tts, service.files)).openapi()
    finally:
        service.table.close()
    operation = schema["paths"]["/v1/engines"]["get"]
    assert operation["security"] == [{"HTTPBearer": []}, {"X-API-Key": []}, {}]
    assert {"200", "401", "403"} <= set(operation["responses"])
