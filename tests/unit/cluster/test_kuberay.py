"""The shipped dashboard and scrape settings name metrics and labels that exist."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from tests.metric_names import METRICS, exported_names

_NAME = re.compile(r"\bray_[a-z0-9_]+")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_SELECTOR = re.compile(r"(ray_lipwright_[a-z_]+)\{([^}]*)\}")
# Labels that Prometheus and Ray add by themselves, as seen in a real scrape.
_RAY_LABELS = {"le", "deployment", "application", "replica", "route", "status_code", "State", "Component", "ip"}


@pytest.fixture(scope="module")
def dashboard(repo_root: Path) -> dict[str, Any]:
    parsed = json.loads((repo_root / "cluster" / "grafana" / "lipwright.json").read_text(encoding="utf-8"))
    assert isinstance(parsed, dict)
    return parsed


def _queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_metrics_of_deployed_files_exist_and_dashboard_has_all(repo_root: Path, dashboard: dict[str, Any]) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    listed = (Path(__file__).parent / "ray_metric_names.txt").read_text(encoding="utf-8").split("\n")
    gpu_names = {f"ray_{name}" for name in METRICS_GAUGES if name.startswith(("node_gpus_", "node_gram_"))}
    texts = [(repo_root / "cluster" / name).read_text(encoding="utf-8") for name in ("keda.yaml", "prometheus.yml")]
    used = {name for text in (*_queries(dashboard), *texts) for name in _NAME.findall(text)}
    assert used - exported_names() - set(listed) - gpu_names == set()
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


def test_keda_scales_workers_like_those_of_kuberay(repo_root: Path) -> None:
    from ray.scripts.scripts import start

    deployment, scaled = yaml.safe_load_all((repo_root / "cluster" / "keda.yaml").read_text(encoding="utf-8"))
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert {trigger["type"] for trigger in scaled["spec"]["triggers"]} == {"prometheus"}
    assert all(_NAME.search(trigger["metadata"]["query"]) for trigger in scaled["spec"]["triggers"])
    text = (repo_root / "cluster" / "rayservice.yaml").read_text(encoding="utf-8")
    (service,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "RayService")
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    pod, (worker,) = deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]["containers"]
    (twin,) = group["template"]["spec"].pop("containers")
    command, token = worker.pop("command"), [worker["env"].pop(0), worker["env"].pop(0)]
    assert (worker, {**pod, "containers": None}) == (twin, {**group["template"]["spec"], "containers": None})
    assert [each["name"] for each in token] == ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"]
    assert f"--object-store-memory={group['rayStartParams']['object-store-memory']}" in command
    assert f"--address={service['metadata']['name']}-head-svc:6379" in command
    start.make_context("ray start", command[2:])


def test_prometheus_config_reads_rays_discovery_file(repo_root: Path) -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    jobs = yaml.safe_load((repo_root / "cluster" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    by_name = {job["job_name"]: job for job in jobs}
    assert by_name["ray"]["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
    assert by_name["lipwright"]["static_configs"][0]["targets"][0].startswith("127.0.0.1:")


def test_systemd_unit_restarts_the_service(repo_root: Path) -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(repo_root / "cluster" / "lipwright.service")
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], service["UMask"]) == ("always", "mixed", "0077")
    _, *arguments = service["ExecStart"].split()
    assert "--data-dir" in arguments
    assert CliRunner().invoke(app, [arguments[0], "--help"]).exit_code == 0


def test_compose_service_restarts_the_container(repo_root: Path) -> None:
    compose = yaml.safe_load((repo_root / "cluster" / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["lipwright"]
    assert (service["restart"], service["init"]) == ("always", True)
    container = (repo_root / "cluster" / "Containerfile").read_text(encoding="utf-8")
    (mounted,) = service["volumes"]
    assert mounted.partition(":")[2] in container
