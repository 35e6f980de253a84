"""OpenAPI as generators of clients read it: one of them makes a client, and that runs a job."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import HeygemConfig
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving

GENERATOR = os.environ.get("OPENAPI_PYTHON_CLIENT") or shutil.which("openapi-python-client")
NOT_HERE = (
    "openapi-python-client is not installed: put it on the PATH, or its path into OPENAPI_PYTHON_CLIENT, from an "
    "environment of its own (`pip install 'openapi-python-client>=0.29,<0.30'`); it holds typer back"
)
PACKAGE = "lipwright_generated"
# The generator knows no media types of pictures and films; post hooks would call a ruff of its own.
CONFIG = {
    "content_type_overrides": {
        "video/mp4": "application/octet-stream",
        "image/jpeg": "application/octet-stream",
        "text/event-stream": "text/plain",
    },
    "post_hooks": [],
}


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service, heygem=HeygemConfig(enabled=True)) as url:
        yield url


def _schema(url: str) -> dict[str, Any]:
    schema: dict[str, Any] = httpx.get(f"{url}/openapi.json", timeout=60, trust_env=False).json()
    return schema


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (ref for ref in [part.get("$ref")] if isinstance(ref, str))
        for inner in part.values():
            yield from _refs(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _refs(inner)


def test_every_error_is_the_one_problem(url: str) -> None:
    schema = _schema(url)
    assert "Problem" in schema["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & schema["components"]["schemas"].keys()
    for path, ways in schema["paths"].items():
        is_openai = path.startswith("/v1/videos")  # OpenAI's clients know their own form only
        media_type = "application/json" if is_openai else "application/problem+json"
        expected = {media_type: {"schema": {"$ref": f"#/components/schemas/{'ErrorBody' if is_openai else 'Problem'}"}}}
        for way in ways.values():
            errors = {status: answer for status, answer in way["responses"].items() if int(status) >= 400}
            assert all(answer["content"] == expected for answer in errors.values()), (path, errors)
            assert "Retry-After" in errors.get("429", {"headers": ["Retry-After"]})["headers"]
            assert "Content-Range" in errors.get("416", {"headers": ["Content-Range"]})["headers"]


def test_a_generated_client_is_not_named_like_ours(url: str) -> None:
    title = _schema(url)["info"]["title"]
    assert f"{title.lower().replace(' ', '_')}_client" != "lipwright_client", "openapi-python-client names it so"


def test_references_lead_somewhere_and_names_are_readable(url: str) -> None:
    schema = _schema(url)
    for ref in _refs(schema):
        part = schema
        for name in ref.removeprefix("#/").split("/"):
            part = part[name]
    names = [way["operationId"] for ways in schema["paths"].values() for way in ways.values()]
    assert len(names) == len(set(names)) and {"submit_job", "get_job", "get_job_video", "create_video"} <= set(names)
    assert all(name.replace("_", "").isalpha() and name.islower() and len(name) < 24 for name in names), names
    assert schema["components"]["securitySchemes"]["X-API-Key"]["in"] == "header"
    submit = schema["paths"]["/v1/jobs"]["post"]
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in submit["parameters"]
    assert submit["responses"]["202"]["headers"].keys() == {"Location", "Idempotency-Replayed"}
    ranged = schema["paths"]["/v1/jobs/{job_id}/video"]["get"]["responses"]
    assert "ETag" in ranged["200"]["headers"] and "Content-Range" in ranged["206"]["headers"] and "304" in ranged


@pytest.fixture
def generated(url: str, tmp_path: Path) -> Iterator[str]:
    """Name of the generated package."""
    if GENERATOR is None:
        pytest.skip(NOT_HERE)
    (tmp_path / "openapi.json").write_text(json.dumps(_schema(url)))
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    command = [GENERATOR, "generate", "--path", "openapi.json", "--config", "config.yaml", "--meta", "none"]
    made = subprocess.run(
        [*command, "--output-path", PACKAGE, "--fail-on-warning"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(tmp_path))
    try:
        yield PACKAGE
    finally:
        sys.path.remove(str(tmp_path))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def test_a_generated_client_runs_a_job(url: str, service: MemoryService, generated: str) -> None:
    def part(name: str) -> Any:
        return importlib.import_module(f"{generated}.{name}")

    def body(speech: bytes) -> Any:
        files = {"audio": ("talk.wav", speech), "video": ("face.mp4", b"mp4!" + bytes(900))}
        as_parts = {
            name: part("types").File(payload=io.BytesIO(content), file_name=label)
            for name, (label, content) in files.items()
        }
        words = part("models").JobFormMetadata.from_dict({"order": "17"})
        return part("models").JobForm(**as_parts, metadata=words)

    with part("client").AuthenticatedClient(base_url=url, token="none") as client:
        submit = part("api.jobs.submit_job").sync
        job = submit(client=client, body=body(b"RIFF"), idempotency_key="k")
        assert (job.status.value, job.inputs.audio, job.metadata.to_dict()) == ("queued", "talk.wav", {"order": "17"})
        assert submit(client=client, body=body(b"RIFF"), idempotency_key="k").id == job.id
        refused = submit(client=client, body=body(b"other"), idempotency_key="k")
        assert (type(refused).__name__, refused.code) == ("Problem", "idempotency_key_reused")
        early = part("api.jobs.get_job_video").sync(job.id, client=client)
        assert (early.status, early.code) == (409, "state_conflict")
        service.finish(job.id)
        assert part("api.jobs.get_job").sync(job.id, client=client).status.value == "succeeded"
        assert part("api.jobs.get_job_video").sync(job.id, client=client).payload.read() == VIDEO_BYTES
        assert [one.id for one in part("api.jobs.list_jobs").sync(client=client).jobs] == [job.id]
        assert part("api.jobs.delete_job").sync(job.id, client=client).id == job.id
        assert part("api.jobs.get_job").sync(job.id, client=client).code == "not_found"
