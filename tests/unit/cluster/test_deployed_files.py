"""The files that machines are started and watched with: schemas of the tools that read them, and real names."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from dockerfile_parse import DockerfileParser
from jsonschema import Draft7Validator, validate
from packaging.requirements import Requirement
from typer.testing import CliRunner

from cli.main import app
from config import PipelineConfig
from tests.metric_names import METRICS, exported_names

# What KubeRay 1.5 reads of a RayService, as a JSON schema, as far as `cluster/` uses it. Written after
# `ray-operator/apis/ray/v1/rayservice_types.go` and `raycluster_types.go` of ray-project/kuberay, and the Kubernetes
# API of a pod. Fields that are not read any more (`*UnhealthySecondThreshold`) are left out on purpose.
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_QUANTITY = {"type": ["string", "integer"], "pattern": r"^\d+(m|Mi|Gi)?$"}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    fields = {"properties": properties, "required": required.split(), "additionalProperties": False}
    return {"type": "object", **fields}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


_RESOURCES = {"type": "object", "additionalProperties": _QUANTITY}
_PORT = _object("containerPort name", containerPort=_COUNT, name={"type": "string", "maxLength": 15})
_CONTAINER = _object(
    "name image resources",
    **{"name": _TEXT, "image": {"type": "string", "pattern": r":\d+\.\d+\.\d+"}, "ports": _list(_PORT)},
    env=_list(_object("name", name=_TEXT, value=_TEXT, valueFrom={"type": "object"})),
    securityContext=_object(allowPrivilegeEscalation=_FLAG, capabilities=_object(drop=_list(_TEXT))),
    lifecycle=_object(preStop=_object(exec=_object("command", command=_list(_TEXT)))),
    resources=_object(requests=_RESOURCES, limits=_RESOURCES),
    volumeMounts=_list(_object("name mountPath", name=_TEXT, mountPath=_TEXT)),
)
_POLICY: dict[str, Any] = {"fsGroupChangePolicy": {"enum": ["OnRootMismatch", "Always"]}}
_CLAIM = _object("claimName", claimName=_TEXT)
_EMPTY = _object(medium={"enum": ["", "Memory"]}, sizeLimit=_QUANTITY)
_POD_SPEC = _object(
    "containers",
    containers=_list(_CONTAINER),
    terminationGracePeriodSeconds=_COUNT,
    securityContext=_object(runAsNonRoot=_FLAG, runAsUser=_COUNT, fsGroup=_COUNT, **_POLICY),
    tolerations=_list(_object(key=_TEXT, operator={"enum": ["Exists", "Equal"]}, effect=_TEXT)),
    volumes=_list(_object("name", name=_TEXT, persistentVolumeClaim=_CLAIM, emptyDir=_EMPTY)),
)
_START = {"type": "object", "additionalProperties": _TEXT}  # numbers, too: KubeRay refuses what is no string
_GROUP = {"rayStartParams": _START, "template": _object("spec", spec=_POD_SPEC)}
_REPLICAS = {"replicas": _COUNT, "minReplicas": _COUNT, "maxReplicas": _COUNT}
_PASSWORD = _object("secretKeyRef", secretKeyRef=_object("name key", name=_TEXT, key=_TEXT))
_REDIS = {"redisAddress": _TEXT, "redisPassword": _object(value=_TEXT, valueFrom=_PASSWORD)}
_CLUSTER = _object(
    "headGroupSpec",
    **{"rayVersion": _TEXT, "enableInTreeAutoscaling": _FLAG, "autoscalerOptions": _object(idleTimeoutSeconds=_COUNT)},
    authOptions=_object(mode={"enum": ["disabled", "token"]}),
    gcsFaultToleranceOptions=_object("redisAddress", externalStorageNamespace=_TEXT, **_REDIS),
    headGroupSpec=_object("rayStartParams template", **_GROUP),
    workerGroupSpecs=_list(_object("groupName template", groupName=_TEXT, **_GROUP, **_REPLICAS)),
)
_UPGRADE = {"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}
RAY_SERVICE = _object(
    "apiVersion kind metadata spec",
    **{"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayService"}, "metadata": _object("name", name=_TEXT)},
    spec=_object(
        "rayClusterConfig serveConfigV2",
        **{"serveConfigV2": _TEXT, "rayClusterConfig": _CLUSTER, "rayClusterDeletionDelaySeconds": _COUNT},
        excludeHeadPodFromServeSvc=_FLAG,
        upgradeStrategy=_object("type", type=_UPGRADE),
    ),
)


def _all(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture
def cluster(repo_root: Path) -> Path:
    return repo_root / "cluster"


@pytest.fixture
def service(cluster: Path) -> dict[str, Any]:
    (service,) = [each for each in _all(cluster / "rayservice.yaml") if each["kind"] == "RayService"]
    return service


def _groups(service: dict[str, Any]) -> list[dict[str, Any]]:
    spec = service["spec"]["rayClusterConfig"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def _check_ray_start(arguments: list[str]) -> None:
    """Parse the arguments of `ray start` as Ray does; nothing is started."""
    from ray.scripts.scripts import start

    start.make_context("ray start", arguments)


def test_rayservice_has_only_fields_that_kuberay_reads(cluster: Path, service: dict[str, Any]) -> None:
    validate(service, RAY_SERVICE)
    (patch,) = _all(cluster / "rayservice.redis.yaml")
    patched = json.loads(json.dumps(service))
    patched["spec"]["rayClusterConfig"] |= patch["spec"]["rayClusterConfig"]
    assert patched != service
    validate(patched, RAY_SERVICE)
    patched["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minWorkers"] = 1
    assert not Draft7Validator(RAY_SERVICE).is_valid(patched)


def test_pods_shared_memory_holds_the_object_store(service: dict[str, Any]) -> None:
    for group in _groups(service):
        pod = group["template"]["spec"]
        (shared,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-mem"]
        (container,) = pod["containers"]
        store = int(group["rayStartParams"]["object-store-memory"])
        assert shared["medium"] == "Memory"
        assert store <= int(shared["sizeLimit"].removesuffix("Gi")) * 2**30
        # What is in shared memory counts as the pod's.
        assert store <= int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30 / 3
        _check_ray_start([f"--{name}={value}" for name, value in group["rayStartParams"].items()])


def test_pods_run_as_the_user_of_the_image(cluster: Path, service: dict[str, Any]) -> None:
    user = int(re.findall(r"^USER (\d+):\d+$", (cluster / "Containerfile").read_text(encoding="utf-8"), re.M)[-1])
    for group in _groups(service):
        context = group["template"]["spec"]["securityContext"]
        assert (context["runAsUser"], context["fsGroup"], context["runAsNonRoot"]) == (user, user, True)


def test_gpu_worker_group_scales_to_zero(service: dict[str, Any]) -> None:
    serve = yaml.safe_load(service["spec"]["serveConfigV2"])
    (faces,) = [each for each in serve["applications"][0]["deployments"] if each["name"] == "FaceSynthesis"]
    groups = {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert faces["autoscaling_config"]["min_replicas"] == groups["gpu"]["minReplicas"] == 0
    most = groups["gpu"]["maxReplicas"] / faces["ray_actor_options"]["num_gpus"]
    assert most >= faces["autoscaling_config"]["max_replicas"]
    assert faces["ray_actor_options"]["num_cpus"] == 0, "Studios may have taken every core of a GPU's node"
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    assert container["image"].endswith("-gpu")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_launcher_config_is_accepted_by_ray(cluster: Path) -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    (config,) = _all(cluster / "launcher.yaml")
    validate_config(fillout_defaults(config))
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0
    for command in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        words = shlex.split(command.replace("$RAY_HEAD_IP", "127.0.0.1"))
        assert words[:3] == ["RAY_AUTH_MODE=token", "ray", "start"]
        _check_ray_start(words[3:])


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cluster.yaml"])
def test_compose_file_fits_the_specification(cluster: Path, name: str) -> None:
    (content,) = _all(cluster / name)
    validate(content, get_builtin_schema("vendor.compose-spec"))
    mounted = [volume.split(":") for each in content["services"].values() for volume in each.get("volumes", [])]
    for source, *target in mounted:  # without a target, it is a volume without a name
        assert not target or source in content["volumes"] or (cluster / source).exists(), source
    images = [each["image"] for each in content["services"].values()]
    assert not [image for image in images if not re.search(r":v?\d+\.\d+", image)], "every image has a version"
    ports = [port for each in content["services"].values() for port in each.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_nodes_start_with_valid_ray_options(cluster: Path) -> None:
    (content,) = _all(cluster / "compose.cluster.yaml")
    for name in ("head", "worker"):
        node = content["services"][name]
        words = node["command"]
        assert words[:2] == ["ray", "start"]
        _check_ray_start(words[2:])
        options = dict(word.removeprefix("--").split("=") for word in words[2:] if "=" in word)
        assert int(options["object-store-memory"]) <= int(node["shm_size"].removesuffix("g")) * 2**30
    assert content["services"]["worker"]["deploy"]["replicas"] == 2
    *_, config = content["services"]["deploy"]["command"]
    assert (cluster.parent / config).is_file()


def _variables(container: dict[str, Any]) -> dict[str, Any]:
    """What a pod's container has in its environment: a text, or the secret that it comes from."""
    return {each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"] for each in container["env"]}


def test_compose_nodes_use_the_postgres_service(cluster: Path) -> None:
    (content,) = _all(cluster / "compose.cluster.yaml")
    database = content["services"]["postgres"]
    assert PipelineConfig.model_validate({"state": content["x-state"]["LIPWRIGHT_STATE"]}).state
    url = urlsplit(content["x-state"]["LIPWRIGHT_STATE"])
    assert (url.hostname, url.username) == ("postgres", database["environment"]["POSTGRES_USER"])
    assert url.path == f"/{url.username}" and url.password is None
    (password,) = {content["x-state"]["PGPASSWORD"], database["environment"]["POSTGRES_PASSWORD"]}
    assert password.startswith("${POSTGRES_PASSWORD:?"), "no file holds it, and nothing starts without it"
    for name in ("head", "worker"):
        environment = content["services"][name]["environment"]
        assert content["x-state"].items() <= environment.items()
        assert environment["RAY_AUTH_MODE"] == "token"
    assert not content["x-state"].keys() & content["services"]["deploy"]["environment"].keys()
    assert content["services"]["head"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert database["healthcheck"]["test"][1] == "pg_isready"
    (volume,) = database["volumes"]
    assert volume.partition(":")[0] in content["volumes"]
    assert "ports" not in database, "nobody outside has to reach it"
    (one,) = _all(cluster / "compose.yaml")
    assert one["services"]["lipwright"]["environment"]["LIPWRIGHT_STATE"] == "${LIPWRIGHT_STATE:-}"


def test_compose_nodes_use_the_bucket_and_own_volumes(cluster: Path) -> None:
    (content,) = _all(cluster / "compose.cluster.yaml")
    services, found = content["services"], content["x-files"]
    server = services["files"]
    assert PipelineConfig.model_validate({"files": found["LIPWRIGHT_FILES"]}).files
    url = urlsplit(found["LIPWRIGHT_FILES"])
    endpoint = urlsplit(dict(parse_qsl(url.query))["endpoint"])
    assert (endpoint.hostname, url.hostname) == ("files", server["environment"]["S3_BUCKET"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert server["environment"][name] == found[name]
    assert found["AWS_SECRET_ACCESS_KEY"].startswith("${FILES_PASSWORD:?")
    assert "ports" not in server, "nobody outside has to reach it"
    nodes = [services[name] for name in ("head", "worker")]
    for node in nodes:
        assert found.items() <= node["environment"].items()
    sources = [volume.rpartition(":")[0] for node in nodes for volume in node["volumes"] if "lipwright/data" in volume]
    assert sources == ["data", ""], "the worker's has no name: each has one of its own"
    (one,) = _all(cluster / "compose.yaml")
    assert one["services"]["lipwright"]["environment"]["LIPWRIGHT_FILES"] == "${LIPWRIGHT_FILES:-}"


def test_pods_use_the_postgres_service(cluster: Path, service: dict[str, Any]) -> None:
    address, database = _all(cluster / "postgres.yaml")
    (server,) = database["spec"]["template"]["spec"]["containers"]
    settings = _variables(server)
    (port,) = address["spec"]["ports"]
    assert address["spec"]["selector"] == database["spec"]["template"]["metadata"]["labels"]
    assert port["port"] == server["ports"][0]["containerPort"] == 5432
    for group in _groups(service):
        (container,) = group["template"]["spec"]["containers"]
        variables = _variables(container)
        state = PipelineConfig.model_validate({"state": variables["LIPWRIGHT_STATE"]}).state
        url = urlsplit(str(state))
        assert (url.hostname, url.password) == (address["metadata"]["name"], None)
        assert url.username == settings["POSTGRES_USER"] and url.path == f"/{settings['POSTGRES_USER']}"
        assert variables["PGPASSWORD"] == settings["POSTGRES_PASSWORD"] == {"name": url.hostname, "key": "password"}
    (compose,) = _all(cluster / "compose.cluster.yaml")
    assert server["image"] == compose["services"]["postgres"]["image"]
    (mount,) = server["volumeMounts"]
    assert settings["PGDATA"].startswith(f"{mount['mountPath']}/")
    (claim,) = database["spec"]["volumeClaimTemplates"]
    assert mount["name"] == claim["metadata"]["name"]


def test_compose_serve_config_equals_the_cpu_config(cluster: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    (ours,), (twin,) = _all(cluster / "serve_config.compose.yaml"), _all(cluster.parent / "serve_config.cpu.yaml")
    ServeDeploySchema.model_validate(ours)
    PipelineConfig.model_validate(ours["applications"][0]["args"])
    assert ours["http_options"].pop("host") == "0.0.0.0"
    twin["http_options"].pop("host")
    for config in (ours, twin):
        config["applications"][0].pop("args")
        for deployment in config["applications"][0]["deployments"]:
            if deployment["name"] in ("Studio", "FaceSynthesis"):
                assert deployment.pop("num_replicas", None) or deployment.pop("autoscaling_config")
    assert ours == twin


def test_compose_grafana_reads_prometheus(cluster: Path) -> None:
    (content,) = _all(cluster / "compose.cluster.yaml")
    services, provisioning = content["services"], cluster / "grafana" / "provisioning"
    (source,) = _all(provisioning / "datasources" / "prometheus.yaml")[0]["datasources"]
    assert source["url"].removeprefix("http://").partition(":")[0] in services
    assert source["isDefault"], "the dashboard takes the default source"
    (provider,) = _all(provisioning / "dashboards" / "lipwright.yaml")[0]["providers"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert any(target.startswith(provider["options"]["path"]) for target in targets)
    head = [volume.split(":") for volume in services["head"]["volumes"]]
    scrapes = [volume.split(":") for volume in services["prometheus"]["volumes"]]
    (folder,) = {source for source, target, *_ in head if target == "/tmp/ray"}
    assert [folder, "/tmp/ray", "ro"] in scrapes, "Prometheus reads the list of nodes that the head writes"


def test_containerfile_pins_python_and_drops_root(cluster: Path, tmp_path: Path) -> None:
    project = tomllib.loads((cluster.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = DockerfileParser(path=str(tmp_path))
    lines.content = (cluster / "Containerfile").read_text(encoding="utf-8")
    steps = [(step["instruction"], step["value"]) for step in lines.structure]
    arguments = dict(value.partition("=")[::2] for kind, value in steps if kind == "ARG")
    bases = [value for kind, value in steps if kind == "FROM"]
    assert len(bases) == 2 and all("${PYTHON}" in base for base in bases)
    version = re.fullmatch(r"(\d+\.\d+)\.\d+-slim-[a-z]+", arguments["PYTHON"])
    assert version is not None and Requirement(f"python{project['requires-python']}").specifier.contains(version[1])
    assert arguments["EXTRA"] in project["optional-dependencies"]
    assert arguments["TORCH_INDEX"].endswith("/cpu")
    *_, user = [value for kind, value in steps if kind == "USER"]
    assert not user.startswith(("0", "root"))
    copied = [value.split()[0] for kind, value in steps if kind == "COPY" and not value.startswith("--from")]
    assert all((cluster.parent / source).exists() for source in copied)


def test_constraints_satisfy_pyproject(cluster: Path) -> None:
    project = tomllib.loads((cluster.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (cluster / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    installed = [text for name in ("cpu", "gpu", "tts", "postgres", "s3", "otel") for text in extras[name]]
    for text in (*project["dependencies"], *installed):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name], prereleases=True), text
    assert pins["psycopg-binary"] == pins["psycopg"], "one is made for the other"
    container = (cluster / "Containerfile").read_text(encoding="utf-8")
    assert '".[${EXTRA},postgres,s3,otel]"' in container


_NAME = re.compile(r"\bray_[a-z0-9_]+")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_SELECTOR = re.compile(r"(ray_lipwright_[a-z_]+)\{([^}]*)\}")
# Labels that Prometheus and Ray add by themselves, as seen in a real scrape.
_RAY_LABELS = {"le", "deployment", "application", "replica", "route", "status_code", "State", "Component", "ip"}


@pytest.fixture(scope="module")
def dashboard(repo_root: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((repo_root / "cluster" / "grafana" / "lipwright.json").read_bytes())
    return parsed


def _queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_metrics_of_deployed_files_exist_and_dashboard_has_all(repo_root: Path, dashboard: dict[str, Any]) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    gpu_names = {f"ray_{name}" for name in METRICS_GAUGES if name.startswith(("node_gpus_", "node_gram_"))}
    texts = [(repo_root / "cluster" / name).read_text(encoding="utf-8") for name in ("keda.yaml", "prometheus.yml")]
    used = {name for text in (*_queries(dashboard), *texts) for name in _NAME.findall(text)}
    assert {name for name in used if name.startswith("ray_lipwright_")} <= exported_names()
    # tests/graph/test_metrics.py compares Ray's other metrics with those of a service.
    assert {name for name in used if name.startswith(("ray_node_gpus_", "ray_node_gram_"))} <= gpu_names
    assert [name for name in METRICS if f"ray_{name}" not in "\n".join(_queries(dashboard))] == []


def test_dashboard_labels_exist(dashboard: dict[str, Any]) -> None:
    ours = {label for metric in METRICS.values() for label in metric.labels}
    for query in _queries(dashboard):
        grouped = {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")}
        assert grouped <= ours | _RAY_LABELS, query
        for name, selector in _SELECTOR.findall(query):
            base = re.sub(r"_(total|bucket|count|sum)$", "", name.removeprefix("ray_"))
            assert set(re.findall(r"(\w+)[!=]~?\"", selector)) <= set(METRICS[base].labels), query


def test_dashboard_panels_do_not_overlap_and_share_a_source(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"] == "lipwright"
    (datasource,) = dashboard["templating"]["list"]
    assert (datasource["type"], datasource["name"]) == ("datasource", "datasource")
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] for panel in panels)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_keda_scales_workers_like_those_of_kuberay(repo_root: Path, service: dict[str, Any]) -> None:
    deployment, scaled = _all(repo_root / "cluster" / "keda.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert {trigger["type"] for trigger in scaled["spec"]["triggers"]} == {"prometheus"}
    assert all(_NAME.search(trigger["metadata"]["query"]) for trigger in scaled["spec"]["triggers"])
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    pod, (worker,) = deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]["containers"]
    (twin,) = group["template"]["spec"].pop("containers")
    (port,) = worker.pop("ports")
    command, token = worker.pop("command"), [worker["env"].pop(0), worker["env"].pop(0)]
    assert (worker, {**pod, "containers": None}) == (twin, {**group["template"]["spec"], "containers": None})
    assert [each["name"] for each in token] == ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"]
    assert f"--object-store-memory={group['rayStartParams']['object-store-memory']}" in command
    assert f"--address={service['metadata']['name']}-head-svc:6379" in command
    assert port["name"] == "metrics" and f"--metrics-export-port={port['containerPort']}" in command
    _check_ray_start(command[2:])


def test_prometheus_config_reads_rays_discovery_file(repo_root: Path) -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    jobs = _all(repo_root / "cluster" / "prometheus.yml")[0]["scrape_configs"]
    by_name = {job["job_name"]: job for job in jobs}
    assert by_name["ray"]["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
    assert by_name["lipwright"]["static_configs"][0]["targets"][0].startswith("127.0.0.1:")


def test_systemd_and_compose_restart_the_service(repo_root: Path) -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(repo_root / "cluster" / "lipwright.service")
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], service["UMask"]) == ("always", "mixed", "0077")
    _, *arguments = service["ExecStart"].split()
    assert "--data-dir" in arguments
    assert CliRunner().invoke(app, [arguments[0], "--help"]).exit_code == 0
    (compose,) = _all(repo_root / "cluster" / "compose.yaml")
    service = compose["services"]["lipwright"]
    assert (service["restart"], service["init"]) == ("always", True)
    (mounted,) = service["volumes"]
    assert mounted.partition(":")[2] in (repo_root / "cluster" / "Containerfile").read_text(encoding="utf-8")
