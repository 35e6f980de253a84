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
from jsonschema import validate
from packaging.requirements import Requirement
from typer.testing import CliRunner

from lipwright.cli.main import app
from lipwright.config import PipelineConfig
from lipwright.launch.environment import NODE_SETTINGS
from tests.metric_names import METRICS, exported_names

# What KubeRay 1.5 reads of a RayService, as far as `cluster/` uses it; a field with "!" is required. Written after
# `ray-operator/apis/ray/v1/rayservice_types.go` and `raycluster_types.go` of ray-project/kuberay, and the Kubernetes
# API of a pod. Fields that are not read any more (`*UnhealthySecondThreshold`) are left out on purpose.
_RAY_SERVICE = """
apiVersion!: ray.io/v1
kind!: RayService
metadata!: {name!: text}
spec!:
  serveConfigV2!: text
  excludeHeadPodFromServeSvc: flag
  rayClusterDeletionDelaySeconds: count
  upgradeStrategy: {type!: NewCluster|NewClusterWithIncrementalUpgrade|None}
  rayClusterConfig!:
    rayVersion: text
    enableInTreeAutoscaling: flag
    autoscalerOptions: {idleTimeoutSeconds: count}
    authOptions: {mode: disabled|token}
    headGroupSpec!: &group
      rayStartParams!: texts
      template!:
        spec!:
          terminationGracePeriodSeconds: count
          securityContext: {runAsNonRoot: flag, runAsUser: count, fsGroup: count, fsGroupChangePolicy: OnRootMismatch}
          tolerations: [{key: text, operator: Exists|Equal, effect: text}]
          volumes:
          - {name!: text, persistentVolumeClaim: {claimName!: text}, emptyDir: {medium: Memory, sizeLimit: quantity}}
          containers!:
          - name!: text
            image!: image
            ports: [{containerPort!: count, name!: name}]
            env: [{name!: text, value: text, valueFrom: object}]
            securityContext: {allowPrivilegeEscalation: flag, capabilities: {drop: [text]}}
            lifecycle: {preStop: {exec: {command!: [text]}}}
            resources!: {requests: quantities, limits: quantities}
            volumeMounts: [{name!: text, mountPath!: text}]
    workerGroupSpecs: [{<<: *group, groupName!: text, replicas: count, minReplicas: count, maxReplicas: count}]
"""
_QUANTITY = {"type": ["string", "integer"], "pattern": r"^\d+(m|Mi|Gi)?$"}
_KINDS: dict[str, dict[str, Any]] = {
    **{"text": {"type": "string"}, "count": {"type": "integer", "minimum": 0}, "flag": {"type": "boolean"}},
    **{"object": {"type": "object"}, "name": {"type": "string", "maxLength": 15}, "quantity": _QUANTITY},
    "quantities": {"type": "object", "additionalProperties": _QUANTITY},
    "texts": {"type": "object", "additionalProperties": {"type": "string"}},  # KubeRay refuses numbers, too
    "image": {"type": "string", "pattern": r":\d+\.\d+\.\d+"},
}


def _schema(shape: Any) -> dict[str, Any]:
    """The JSON schema of a shape."""
    if isinstance(shape, list):
        return {"type": "array", "items": _schema(shape[0]), "minItems": 1}
    if isinstance(shape, str):
        return _KINDS.get(shape) or {"enum": shape.split("|")}
    fields = {name.rstrip("!"): _schema(inner) for name, inner in shape.items()}
    required = [name.rstrip("!") for name in shape if name.endswith("!")]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _all(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture
def cluster(repo_root: Path) -> Path:
    return repo_root / "cluster"


@pytest.fixture
def service(cluster: Path) -> dict[str, Any]:
    (service,) = [each for each in _all(cluster / "rayservice.yaml") if each["kind"] == "RayService"]
    return service


@pytest.fixture
def compose(cluster: Path) -> dict[str, Any]:
    """The compose file with several nodes."""
    (content,) = _all(cluster / "compose.cluster.yaml")
    return content


def _groups(service: dict[str, Any]) -> list[dict[str, Any]]:
    spec = service["spec"]["rayClusterConfig"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def _check_ray_start(arguments: list[str]) -> None:
    """Parse the arguments of `ray start` as Ray does; nothing is started."""
    from ray.scripts.scripts import start

    start.make_context("ray start", arguments)


def test_rayservice_has_only_fields_that_kuberay_reads(service: dict[str, Any]) -> None:
    validate(service, _schema(yaml.safe_load(_RAY_SERVICE)))


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


def test_compose_nodes_start_with_valid_ray_options(cluster: Path, compose: dict[str, Any]) -> None:
    for node in (compose["services"]["head"], compose["services"]["worker"]):
        assert node["command"][:3] == ["ray", "start", "--block"]
        arguments = node["command"][2:]
        _check_ray_start(arguments[:])  # click empties the list
        options = dict(word.removeprefix("--").split("=") for word in arguments if "=" in word)
        assert int(options["object-store-memory"]) <= int(node["shm_size"].removesuffix("g")) * 2**30
    *_, config = compose["services"]["deploy"]["command"]
    assert (cluster.parent / config).is_file()


def _variables(container: dict[str, Any]) -> dict[str, Any]:
    """What a pod's container has in its environment: a text, or the secret that it comes from."""
    return {each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"] for each in container["env"]}


def test_compose_nodes_use_the_database_and_the_bucket(compose: dict[str, Any]) -> None:
    services, state, files = compose["services"], compose["x-state"], compose["x-files"]
    database, server = services["postgres"]["environment"], services["files"]["environment"]
    config = PipelineConfig.model_validate({"state": state["LIPWRIGHT_STATE"], "files": files["LIPWRIGHT_FILES"]})
    url, bucket = urlsplit(str(config.state)), urlsplit(str(config.files))
    assert (url.hostname, url.username, url.password) == ("postgres", database["POSTGRES_USER"], None)
    assert (url.path, state["PGPASSWORD"]) == (f"/{url.username}", database["POSTGRES_PASSWORD"])
    endpoint = urlsplit(dict(parse_qsl(bucket.query))["endpoint"])
    assert (endpoint.hostname, bucket.hostname) == ("files", server["S3_BUCKET"])
    assert {name: server[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}.items() <= files.items()
    for secret in (state["PGPASSWORD"], files["AWS_SECRET_ACCESS_KEY"]):
        assert re.match(r"\$\{[A-Z]+_PASSWORD:\?", secret), "no file holds it, and nothing starts without it"
    assert "ports" not in services["postgres"] | services["files"], "nobody outside has to reach them"
    nodes = [services[name] for name in ("head", "worker")]
    for node in nodes:
        assert node["environment"].items() >= {**state, **files, "RAY_AUTH_MODE": "token"}.items()
    assert not state.keys() & services["deploy"]["environment"].keys()
    assert services["head"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    sources = [volume.rpartition(":")[0] for node in nodes for volume in node["volumes"] if "lipwright/data" in volume]
    assert sources == ["data", ""], "the worker's has no name: each has one of its own"


def test_pods_use_the_postgres_service(cluster: Path, service: dict[str, Any], compose: dict[str, Any]) -> None:
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


def test_compose_grafana_reads_prometheus(cluster: Path, compose: dict[str, Any]) -> None:
    services, provisioning = compose["services"], cluster / "grafana" / "provisioning"
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
    assert '".[${EXTRA},postgres,s3,otel]"' in lines.content
    assert arguments["TORCH_INDEX"] == "", "no host of a package index by default"
    *_, user = [value for kind, value in steps if kind == "USER"]
    assert not user.startswith(("0", "root"))
    (variables,) = [value for kind, value in steps if kind == "ENV" and "OPENBLAS" in value]
    assert NODE_SETTINGS.items() <= dict(each.split("=", 1) for each in variables.split()).items()
    copied = [value.split()[0] for kind, value in steps if kind == "COPY" and not value.startswith("--from")]
    assert all((cluster.parent / source).exists() for source in copied)


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


def test_metrics_of_deployed_files_exist_and_dashboard_has_all(cluster: Path, dashboard: dict[str, Any]) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    gpu_names = {f"ray_{name}" for name in METRICS_GAUGES if name.startswith(("node_gpus_", "node_gram_"))}
    prometheus = (cluster / "prometheus.yml").read_text(encoding="utf-8")
    used = {name for text in (*_queries(dashboard), prometheus) for name in _NAME.findall(text)}
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


def test_dashboard_panels_are_described_and_share_a_source(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"] == "lipwright"
    (datasource,) = dashboard["templating"]["list"]
    assert (datasource["type"], datasource["name"]) == ("datasource", "datasource")
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] for panel in panels)


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
    for name in ("LIPWRIGHT_STATE", "LIPWRIGHT_FILES"):
        assert service["environment"][name] == f"${{{name}:-}}"
    (mounted,) = service["volumes"]
    assert mounted.partition(":")[2] in (repo_root / "cluster" / "Containerfile").read_text(encoding="utf-8")
