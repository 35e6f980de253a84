"""The files that name things of other files: each name is real, and twins agree."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

CONFIGS = ("serve_config.yaml", "serve_config.cpu.yaml")
MAX_IMPORT_SECONDS = 20.0  # of process CPU; a cold numba cache alone costs more


def _read(path: Path) -> dict[str, Any]:
    parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(parsed, dict)
    return parsed


def _deployments(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (application,) = config["applications"]
    return {deployment["name"]: deployment for deployment in application["deployments"]}


@pytest.mark.parametrize("name", CONFIGS)
def test_serve_config_names_and_bounds_all_deployments(repo_root: Path, name: str) -> None:
    from ray.serve._private.build_app import build_app
    from ray.serve.schema import ServeDeploySchema

    from graph import build
    from lipwright.config import PipelineConfig

    config = _read(repo_root / name)
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    assert application["import_path"] == "graph:build"
    graph = build_app(build(PipelineConfig.model_validate(application.get("args", {}))), name=application["name"])
    deployments = _deployments(config)
    assert {deployment.name for deployment in graph.deployments} == set(deployments)
    assert [n for n, options in deployments.items() if "max_ongoing_requests" not in options] == []
    # The Ingress answers 429 by itself; behind it, an endless queue hides a stage that is full.
    unbounded = [n for n, options in deployments.items() if options.get("max_queued_requests", -1) < 0]
    assert set(unbounded) <= {"Ingress"}


def test_rayservice_yaml_equals_the_serve_config(repo_root: Path) -> None:
    documents = list(yaml.safe_load_all((repo_root / "cluster" / "rayservice.yaml").read_text(encoding="utf-8")))
    (service,) = [d for d in documents if d["kind"] == "RayService"]
    carried, original = yaml.safe_load(service["spec"]["serveConfigV2"]), _read(repo_root / "serve_config.yaml")
    # In a pod the proxy has to be reached from outside the pod, and the data folder is a volume of all pods.
    assert carried["http_options"].pop("host") == "0.0.0.0"
    assert Path(carried["applications"][0]["args"].pop("data_dir")).is_absolute()
    original["http_options"].pop("host", None)
    original["applications"][0]["args"].pop("data_dir", None)
    # Nodes with GPUs go while nobody works.
    scaling = _deployments(carried)["FaceSynthesis"]["autoscaling_config"]
    assert scaling.pop("downscale_to_zero_delay_s") > 0
    assert scaling["min_replicas"] == 0
    scaling["min_replicas"] = _deployments(original)["FaceSynthesis"]["autoscaling_config"]["min_replicas"]
    assert carried == original


def _import_in_new_process(repo_root: Path, module: str) -> tuple[float, set[str]]:
    """Return the CPU seconds that `import module` takes and the top-level modules that it loads."""
    show = "print(time.process_time()); print(*{m.partition('.')[0] for m in sys.modules})"
    command = [sys.executable, "-c", f"import {module}, sys, time; {show}"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    seconds, loaded = done.stdout.splitlines()
    return float(seconds), set(loaded.split())


@pytest.mark.parametrize("module", ["graph", "lipwright.launch.service", "lipwright.cli.main"])
def test_import_is_fast_and_writes_no_data(repo_root: Path, module: str) -> None:
    before, data = time.time(), repo_root / "data"
    seconds, loaded = _import_in_new_process(repo_root, module)
    assert seconds < MAX_IMPORT_SECONDS
    # numba takes long to import, and only the process that generates faces uses it.
    assert not loaded & {"numba", "pytest"}
    if module == "lipwright.cli.main":  # `lipwright --help` answers at once
        assert not loaded & {"ray", "torch", "onnxruntime", "librosa"}
    assert not data.exists() or data.stat().st_ctime < before, f"importing {module} wrote into data/"


def test_changelog_begins_with_the_version_of_the_project(repo_root: Path, project: dict[str, Any]) -> None:
    changelog = (repo_root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, *_ = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert newest == project["project"]["version"]


def test_package_holds_every_folder_of_code(repo_root: Path, project: dict[str, Any]) -> None:
    listed = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    beside = {"benchmarks", "samples", "tests", "training", "build", "data", "out"}
    packages = {file.parent.relative_to(repo_root).parts[0] for file in repo_root.glob("[a-z]*/*.py")} - beside
    assert listed == packages
    without = {
        str(file.parent.relative_to(repo_root))
        for package in packages
        for file in (repo_root / package).rglob("*.py")
        if not (file.parent / "__init__.py").is_file()
    }
    assert not without, "a folder without __init__.py is not installed"


def test_setup_bdist_wheel_is_refused(repo_root: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode != 0 and "is not distributed as a wheel" in done.stderr


PYTHON_311_ON_LINUX = {"python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux"}


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))


def _pins(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE))


def test_requirements_lock_lines_are_pins_or_hashes(repo_root: Path) -> None:
    lock = repo_root / "requirements.lock"
    lines = re.split(r"\n(?! )", lock.read_text(encoding="utf-8").strip())
    entries = [entry for entry in lines if not entry.startswith("#")]
    assert len(entries) == len(_pins(lock))
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[:200]


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.lock", "cpu postgres s3 otel"), ("cluster/constraints.txt", "cpu gpu tts postgres s3 otel")],
)
def test_pins_are_in_ranges_of_the_project(repo_root: Path, project: dict[str, Any], name: str, extras: str) -> None:
    ranges, pins = project["project"], _pins(repo_root / name)
    more = [text for extra in extras.split() for text in ranges["optional-dependencies"][extra]]
    for text in (*ranges["dependencies"], *more):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(PYTHON_311_ON_LINUX):
            assert requirement.specifier.contains(pins[requirement.name], prereleases=True), f"{text}: run `make lock`"


def test_requirements_lock_pins_equal_those_of_the_image(repo_root: Path) -> None:
    pins, image = _pins(repo_root / "requirements.lock"), _pins(repo_root / "cluster" / "constraints.txt")
    different = {name: (pins[name], image[name]) for name in pins.keys() & image if pins[name] != image[name]}
    assert not different, "run `make lock`"
    assert len(pins.keys() & image) > 100
    assert image["psycopg-binary"] == image["psycopg"], "one is made for the other"


def test_private_names_of_ray_are_in_one_file(repo_root: Path) -> None:
    listed = repo_root / "deployments" / "runtime" / "ray_internals.py"
    product = [path for path in repo_root.glob("[a-z]*/**/*.py") if path.relative_to(repo_root).parts[0] != "tests"]
    private = re.compile(r"\bray(\.serve)?(\._private|\._raylet)|ray\.serve\.context|\._init\(_prefer")
    found = [path for path in [*product, *repo_root.glob("*.py")] if private.search(path.read_text(encoding="utf-8"))]
    assert found == [listed]
    assert len(listed.read_text(encoding="utf-8").splitlines()) <= 100
