"""The OpenAPI document: clients generated from it run jobs, and no parameter takes integers that fit nowhere."""

from __future__ import annotations

import base64
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from lipwright.config import HeygemConfig
from lipwright.jobs.model.base import new_id
from tests.unit.api.edge_client import AUDIO, VIDEO, finished
from tests.unit.api_server import VIDEO_BYTES, MemoryService, api_client

PACKAGE, MODELS = "lipwright_generated", "lipwright_models"
# As docs/api.md has it: the generator knows no media types of videos. Without hooks it does not call ruff.
BINARY = dict.fromkeys(("video/mp4", "image/jpeg", "audio/wav"), "application/octet-stream")
CONFIG = {"content_type_overrides": {**BINARY, "text/event-stream": "text/plain"}, "post_hooks": []}


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.looked_at = "face"
    return service


HEYGEM: dict[str, Any] = {"heygem": HeygemConfig(enabled=True)}


@pytest.fixture
def api_settings() -> dict[str, Any]:
    return HEYGEM


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with api_client(MemoryService(tmp_path_factory.mktemp("schema")), **HEYGEM) as http:
        return http.get("/openapi.json").json()


def test_every_error_is_the_one_problem(schema: dict[str, Any]) -> None:
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


def test_names_are_readable_and_headers_are_described(schema: dict[str, Any]) -> None:
    names = [way["operationId"] for ways in schema["paths"].values() for way in ways.values()]
    assert len(names) == len(set(names)) and {"submit_job", "get_job", "get_job_video", "create_video"} <= set(names)
    assert all(name.replace("_", "").isalpha() and name.islower() and len(name) < 24 for name in names), names
    title = schema["info"]["title"].lower().replace(" ", "_")
    assert f"{title}_client" != "lipwright_client", "openapi-python-client names it so"
    assert schema["components"]["securitySchemes"]["X-API-Key"]["in"] == "header"
    submit = schema["paths"]["/v1/jobs"]["post"]
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in submit["parameters"]
    assert submit["responses"]["202"]["headers"].keys() == {"Location", "Idempotency-Replayed"}
    ranged = schema["paths"]["/v1/jobs/{job_id}/video"]["get"]["responses"]
    assert "ETag" in ranged["200"]["headers"] and "Content-Range" in ranged["206"]["headers"] and "304" in ranged


def _run(folder: Path, module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, schema: dict[str, Any]) -> Iterator[Path]:
    """The folder in which generators find openapi.json, and from which their modules can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(schema))
    sys.path.insert(0, str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in (PACKAGE, MODELS)]:
            del sys.modules[name]


Part = Callable[[str], Any]


@pytest.fixture(scope="module")
def part(generated: Path) -> Part:
    """Imports a module of the package that openapi-python-client generates."""
    (generated / "config.yaml").write_text(json.dumps(CONFIG))
    options = ("--config", "config.yaml", "--meta", "none", "--output-path", PACKAGE, "--fail-on-warning")
    _run(generated, "openapi_python_client", "generate", "--path", "openapi.json", *options)
    modules = [path.relative_to(generated).with_suffix("") for path in (generated / PACKAGE).rglob("*.py")]
    assert len(modules) > 50
    for module in modules:
        importlib.import_module(".".join(module.parts).removesuffix(".__init__"))
    return lambda name: importlib.import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="module")
def models(generated: Path) -> ModuleType:
    """The module that datamodel-code-generator generates."""
    options = ("--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin", "--set-default-enum-member")
    _run(generated, "datamodel_code_generator", "--input", "openapi.json", "--output", f"{MODELS}.py", *options)
    return importlib.import_module(MODELS)


def test_openapi_python_client_runs_job(url: str, service: MemoryService, part: Part) -> None:
    def file(name: str, content: bytes) -> Any:
        return part("types").File(payload=io.BytesIO(content), file_name=name)

    def body(speech: bytes) -> Any:
        words = part("models").JobSpecMetadata.from_dict({"order": "17"})
        return part("models").JobSpec(audio=file("talk.wav", speech), video=file("face.mp4", VIDEO), metadata=words)

    with part("client").AuthenticatedClient(base_url=url, token="none") as client:
        submit = part("api.jobs.submit_job").sync
        job = submit(client=client, body=body(AUDIO), idempotency_key="k")
        assert (job.status.value, job.inputs.audio, job.metadata.to_dict()) == ("queued", "talk.wav", {"order": "17"})
        assert submit(client=client, body=body(AUDIO), idempotency_key="k").id == job.id
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


def test_openapi_python_client_creates_and_changes_avatar(url: str, part: Part) -> None:
    models, types, client = map(part, ("models", "types", "client"))
    face = types.File(payload=io.BytesIO(VIDEO), file_name="face.mp4")
    with client.AuthenticatedClient(base_url=url, token="none") as http:
        create = part("api.avatars.create_avatar").sync
        change = part("api.avatars.change_avatar").sync
        avatar = create(client=http, body=models.AvatarForm(video=face, background="blur"))
        assert avatar.background == "blur"
        assert change(avatar.id, client=http, body=models.AvatarChangeForm(motion=0.5)).motion == 0.5
        nothing = change(avatar.id, client=http, body=models.AvatarChangeFormInJson())
        assert nothing.code == "option_invalid", "no field has a default that would be sent"


def test_datamodel_code_generator_runs_job(url: str, service: MemoryService, models: ModuleType) -> None:
    audio, video = (base64.b64encode(content).decode() for content in (AUDIO, VIDEO))
    form = models.JobSpecInJson(audio=audio, video=video)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        answer = http.post("/v1/jobs", json=form.model_dump(mode="json", by_alias=True))  # with all defaults
        assert answer.status_code == 202, models.Problem(**answer.json()).detail
        job = models.JobView(**answer.json())
        service.finish(job.id)
        assert models.JobView(**http.get(job.links.self).json()).status.value == "succeeded"
        (listed,) = models.JobList(**http.get("/v1/jobs").json()).jobs
        assert listed.id == job.id


HUGE = [str(2**63), "9" * 20, "-" + "9" * 20, "9" * 300, "9" * 5000]


def _kinds(schema: dict[str, Any]) -> set[str]:
    return {part.get("type") for part in (schema, *schema.get("anyOf", ()))}


def _parameters(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every parameter of the API that is a number."""
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if _kinds(parameter.get("schema", {})) & {"integer", "number"}:
                    yield path, method, parameter


def test_parameters_beyond_64_bits_answer_4xx(
    http: httpx.Client, service: MemoryService, schema: dict[str, Any]
) -> None:
    job_id = finished(http, service)
    avatar = http.post("/v1/avatars", files={"video": ("face.mp4", VIDEO)}).json()
    ids = {"job_id": job_id, "video_id": job_id, "avatar_id": avatar["id"]}
    found = list(_parameters(schema))
    assert {(path, each["name"]) for path, _, each in found} >= {
        *(("/v1/jobs", name) for name in ("after", "limit", "wait")),
        ("/v1/videos", "limit"),
        ("/v1/avatars/{avatar_id}/people/{number}/thumbnail", "number"),
    }
    for path, method, parameter in found:
        for number in HUGE:
            address = path.format(**{**ids, parameter["name"]: number})
            query = {parameter["name"]: number} if parameter["in"] == "query" else {}
            answer = http.request(method, address, params=query)
            assert answer.status_code == 422, (path, parameter["name"], number[:30], answer.text)
    for number in HUGE:
        assert http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": number}).status_code == 200


def test_form_numbers_beyond_64_bits_answer_4xx(http: httpx.Client) -> None:
    for field in ("priority", "fps", "music_gain_db", "turns", "size", "crop", "face", "metadata"):
        for number in HUGE:
            texts = {"turns": f'[{{"start": {number}}}]', "size": f"{number}x{number}", "crop": f"{number}:1"}
            files = {"audio": ("a.wav", AUDIO), "video": ("face.mp4", VIDEO)}
            answer = http.post("/v1/jobs", files=files, data={field: texts.get(field, number)})
            assert answer.status_code in (202, 422), (number[:30], answer.text)
            text = f'{{"audio_url": "http://example.com/a.wav", "avatar_id": "{new_id()}", "{field}": {number}}}'
            answer = http.post("/v1/jobs", content=text, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (number[:30], answer.text)


def test_heygem_codes_beyond_64_bits_get_envelope(http: httpx.Client) -> None:
    for number in HUGE:
        answer = http.post("/easy/submit", content=f'{{"code": {number}, "audio_url": 1, "video_url": {number}}}')
        assert answer.status_code == 200 and answer.json()["success"] is False
        assert http.get("/easy/query", params={"code": number}).status_code == 200
