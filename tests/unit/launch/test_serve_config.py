"""Config files of users: what they override, and what is said about a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config import PipelineConfig
from errors import ConfigError
from launch.serve_config import read_serve_config
from tests.unit.cli.commands import run

FLAT = "port: 8100\nhost: 0.0.0.0\ndata_dir: {0}\njobs: {{max_queued_jobs: 5}}\n"
NESTED = "http_options: {{port: 8100, host: 0.0.0.0}}\n" + (
    "applications: [{{args: {{data_dir: {0}, jobs: {{max_queued_jobs: 5}}}}}}]"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.yaml"


@pytest.mark.parametrize("text", [FLAT, NESTED])
def test_read_serve_config_short_file_overrides_the_shipped(repo_root: Path, path: Path, text: str) -> None:
    path.write_text(text.format(path.parent / "data"))
    shipped = repo_root / "serve_config.cpu.yaml"
    config, base = read_serve_config(path, shipped), read_serve_config(shipped)
    assert (config.http_options["host"], config.http_options["port"]) == ("0.0.0.0", 8100)
    assert config.http_options["request_timeout_s"] == 3600
    assert (config.pipeline.data_dir, config.pipeline.jobs.max_queued_jobs) == (path.parent / "data", 5)
    assert config.pipeline.jobs.max_running_jobs == base.pipeline.jobs.max_running_jobs == 4
    assert config.deployments == base.deployments


def test_read_serve_config_changes_deployments_by_name(repo_root: Path, path: Path) -> None:
    path.write_text("deployments: [{name: Studio, num_replicas: 3, ray_actor_options: {num_cpus: 1}}]")
    config = read_serve_config(path, repo_root / "serve_config.yaml")
    (studio,) = [each for each in config.deployments if each["name"] == "Studio"]
    assert (studio["num_replicas"], studio["ray_actor_options"]) == (3, {"num_cpus": 1})
    assert "autoscaling_config" not in studio and studio["max_ongoing_requests"] == 2
    assert len(config.deployments) == len(read_serve_config(repo_root / "serve_config.yaml").deployments)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("port: 8100\nhost: 127.0.0.2", {}, ("127.0.0.2", 8100)),
        ("port: 8100\nhost: 127.0.0.2", {"host": "127.0.0.1", "port": 8200}, ("127.0.0.1", 8200)),
        ("port: 8100", {"heygem": {"enabled": True}}, ("127.0.0.1", 8100)),
        ("host: 127.0.0.2", {"heygem": {"enabled": True}}, ("127.0.0.2", 8383)),
        ("data_dir: x", {}, ("127.0.0.1", 8000)),
    ],
)
def test_on_this_machine_options_win_over_the_config(
    path: Path, text: str, options: dict[str, object], expected: tuple[str, int]
) -> None:
    path.write_text(text)
    http_options = read_serve_config(path).on_this_machine(**options).http_options  # type: ignore[arg-type]
    assert (http_options["host"], http_options["port"]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: 8100\njobs: {max_queue_jobs: 5}", ":2: jobs.max_queue_jobs: is unknown; did you mean max_queued_jobs?"),
        ("data_dir: x\nmax_queued_jobs: 5", ":2: max_queued_jobs: is unknown; did you mean jobs.max_queued_jobs?"),
        ("prot: 8100", ":1: prot: is unknown; did you mean http_options.port?"),
        ("jbs:\n  max_queued_jobs: 5", ":1: jbs: is unknown; did you mean jobs?"),
        (
            "applications:\n- args:\n    jobs:\n      max_queued_jobs: 0",
            ":4: jobs.max_queued_jobs: must be greater than or equal to 1, found 0.",
        ),
        ("jobs:\n  max_queued_jobs: many", ":2: jobs.max_queued_jobs: must be an integer."),
        ("jobs: 5", ":1: jobs: expected keys with values, such as `data_dir: /srv/lipwright`."),
        ("x_y_z: 1", ":1: x_y_z: is unknown."),
        ("http_options:\n  prot: 8100", ":2: http_options.prot: is unknown; did you mean port?"),
        ("port: 0", ":1: http_options.port: must be a number from 1 to 65535, found 0."),
        ("port: '80'", ":1: http_options.port: must be a number from 1 to 65535, found 80."),
        ("data_dir: x\nhost: 5", ":2: http_options.host: must be an address, such as 127.0.0.1."),
        ("deployments:\n- name: Studioo", ":2: deployments.0.Studioo: is unknown; did you mean Studio?"),
        ("deployments:\n- num_replicas: 1", ":2: deployments.0.name: is required."),
        (
            "deployments:\n- name: Studio\n  num_replica: 1",
            ":3: deployments.0.num_replica: is unknown; did you mean num_replicas?",
        ),
        (
            "deployments:\n- name: Studio\n  num_replicas: some",
            ':2: deployments.0: `num_replicas` must be an int or "auto", but got: some.',
        ),
        ("port: 8100\n  host: x", ":2: not valid YAML: mapping values are not allowed here."),
        ("", ": expected keys with values, such as `data_dir: /srv/lipwright`."),
        ("applications: []", ":1: applications: expected a list of one application."),
        ("applications: [{args: [1]}]", ":1: args: expected keys with values, such as `data_dir: /srv/lipwright`."),
    ],
)
def test_read_serve_config_mistake_names_line_and_key(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_serve_config(path)
    assert str(raised.value) == f"{path}{message}"
    path.write_text("state: mysql://me:secret@host/name")
    with pytest.raises(ConfigError, match=r"^(?!.*secret).*state"):
        read_serve_config(path)


@pytest.mark.parametrize("command", [("serve",), ("doctor",), ("models", "list")])
def test_command_with_missing_config_is_one_error_line(path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, "--config", str(path))
    assert done.exit_code == 1
    assert f"{path}: cannot be read: No such file or directory." in " ".join(done.output.split())
    assert "Error(" not in done.output


def test_read_serve_config_whole_file_is_used_unchanged(repo_root: Path, path: Path) -> None:
    whole = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text())
    whole["applications"][0]["deployments"][0]["max_ongoing_requests"] = 7
    del whole["http_options"]["request_timeout_s"]
    path.write_text(yaml.safe_dump(whole))
    config = read_serve_config(path, repo_root / "serve_config.yaml")
    assert "request_timeout_s" not in config.http_options
    assert config.deployments == whole["applications"][0]["deployments"]


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_read_serve_config_data_dir_ignores_working_directory(repo_root: Path, work_dir: Path, name: str) -> None:
    assert read_serve_config(repo_root / name).pipeline.data_dir == repo_root / "data"
    assert PipelineConfig().data_dir == repo_root / "data"
    assert PipelineConfig(data_dir=work_dir).data_dir == work_dir
