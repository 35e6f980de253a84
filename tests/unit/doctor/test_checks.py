"""`lipwright doctor`, and each of its checks on something that is well and on something that is not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lipwright.config import AccessConfig, BucketConfig, DecoderConfig, LabelsConfig, PipelineConfig
from lipwright.doctor import resources, storage
from lipwright.doctor.access import check_address, check_agent_port, check_front, check_keys, check_token, num_rays_on
from lipwright.doctor.compute import check_gpus, check_onnxruntime_session, check_torch
from lipwright.doctor.machine import FileSystem, file_system, num_cpus
from lipwright.doctor.media_checks import check_decoders, check_encoders, check_labels, check_sandbox
from lipwright.doctor.planned_service import DoctorOptions, plan_service
from lipwright.doctor.report import CheckResult, Status
from lipwright.doctor.software import check_clock, check_onnxruntime, check_packages, check_python, check_weights
from lipwright.launch.data_folder import locked_folder
from lipwright.launch.readiness import free_port
from lipwright.media.decoding.memory_budget import memory_bytes
from lipwright.media.labels.credentials import load_credentials
from models.weights import FOLDER
from tests.ports import quiet_port
from tests.postgres import PostgresServer
from tests.s3_server import S3Server
from tests.threads import QuietHandler, http_server
from tests.unit.cli.commands import run


def is_mended(result: CheckResult, status: Status) -> bool:
    """Whether a result has this status, and says what is expected and how to fix it."""
    return result.status is status and bool(result.expected and result.fix)


def not_ok(*results: CheckResult) -> list[CheckResult]:
    return [result for result in results if result.status is not Status.OK]


def test_check_python_or_clock_too_old_is_reported() -> None:
    assert not_ok(check_python((3, 13, 1)), check_python((3, 11, 8)), check_clock(time.time())) == []
    assert check_python().status in (Status.OK, Status.WARNING)
    assert check_python((3, 10, 9)).status is Status.PROBLEM
    for racing in ((3, 11, 7), (3, 12, 1)):
        assert "PYTHONNODEBUGRANGES" in (check_python(racing).fix or "")
    assert is_mended(check_clock(0.0), Status.WARNING)


def test_check_packages_missing_or_old_is_a_problem() -> None:
    assert not_ok(check_packages(), check_onnxruntime()) == []
    result = check_packages(["numpy>=99", "lipwright-of-tomorrow>=1", "pytest>=8", 'numpy<1; extra == "gpu"'])
    assert is_mended(result, Status.PROBLEM) and "pytest" not in result.found
    assert all(text in result.found for text in ("numpy", ">=99", "lipwright-of-tomorrow is missing"))
    for installed in ([], ["onnxruntime", "onnxruntime-gpu"]):
        assert is_mended(check_onnxruntime(installed), Status.PROBLEM)


def test_check_weights_missing_or_changed_is_a_problem(tmp_path: Path) -> None:
    assert check_weights().status is Status.OK
    copy = tmp_path / "weights"
    shutil.copytree(FOLDER, copy)
    (copy / "lip_model.npz").unlink()
    with (copy / "mean_face_468.npy").open("ab") as file:
        file.write(b"x")
    result = check_weights(copy)
    assert is_mended(result, Status.PROBLEM)
    assert "lip_model.npz" in result.found
    assert "mean_face_468.npy with sha256" in result.found
    assert is_mended(check_weights(tmp_path), Status.PROBLEM)


def test_check_codecs_and_cpu_of_this_machine_are_ok() -> None:
    assert not_ok(check_encoders(), check_decoders(), check_torch("cpu"), check_onnxruntime_session("cpu")) == []


def test_check_sandbox_switched_off_is_a_warning() -> None:
    assert "without" in (found := check_sandbox(DecoderConfig())).found or found.status is Status.OK
    assert is_mended(check_sandbox(DecoderConfig(sandbox=False)), Status.WARNING)


def test_check_gpu_missing_is_a_problem() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    if not Path("/dev/nvidiactl").exists():  # there may be NVENC
        assert "x264" in check_encoders("nvenc").fix and is_mended(check_encoders("nvenc"), Status.PROBLEM)
    assert is_mended(check_torch("cuda"), Status.PROBLEM)
    assert is_mended(check_onnxruntime_session("cuda"), Status.PROBLEM)
    assert len(check_gpus(0)) == 3 and not_ok(*check_gpus(0)) == []
    assert is_mended(check_gpus(1)[0], Status.PROBLEM)


@pytest.mark.needs_cuda
def test_check_gpus_existing_is_ok() -> None:
    assert not_ok(*check_gpus(1)) == []


def test_check_data_folder_open_or_remote_is_a_warning(tmp_path: Path) -> None:
    assert storage.check_data_folder(tmp_path / "not" / "yet").status is Status.OK
    (tmp_path / "file").write_text("x")
    assert is_mended(storage.check_data_folder(tmp_path / "file"), Status.PROBLEM)
    folder, mounts = tmp_path / "folder", tmp_path / "mounts"
    for mode, status in ((0o711, Status.WARNING), (0o700, Status.OK), (0o1777, Status.WARNING)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        result = storage.check_data_folder(folder)
        assert result.status is status
        assert ("a folder of the service alone" in result.fix) == (mode == 0o1777)
    mounts.write_text(f"host:/b {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert is_mended(storage.check_data_folder(tmp_path, mounts), Status.WARNING)
    assert storage.check_data_folder(tmp_path, mounts, holds_table=False).status is Status.OK


def test_check_free_space_and_cache_too_large_are_reported(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert storage.check_free_space(tmp_path, 1).status is Status.OK
    assert is_mended(storage.check_free_space(tmp_path, int(free * 0.7)), Status.WARNING)
    assert is_mended(storage.check_free_space(tmp_path, free * 2), Status.PROBLEM)
    assert storage.check_spill_folder(tmp_path / "ray", free * 2).status is not Status.OK
    for max_bytes, status in ((1, Status.OK), (2 * free, Status.WARNING)):
        bucket = BucketConfig(cache_dir=tmp_path, max_cache_bytes=max_bytes)
        assert storage.check_cache(PipelineConfig(files="s3://b", bucket=bucket)).status is status


def _health_server(status: int) -> AbstractContextManager[int]:
    """The port of a server that answers every request with this status."""

    class Health(QuietHandler):
        def do_GET(self) -> None:
            self.answer(b"{}", status)

    return http_server(Health)


def test_check_address_own_service_on_another_port_is_ok(tmp_path: Path) -> None:
    with _health_server(200) as own, _health_server(503) as unready, locked_folder(tmp_path) as lock:
        starting = check_address("127.0.0.1", quiet_port(), tmp_path)
        assert starting.status is Status.OK and "is starting" in starting.found
        lock.publish_url(f"http://127.0.0.1:{own}")
        for port in (own, quiet_port(), unready):
            ready = check_address("127.0.0.1", port, tmp_path)
            assert ready.status is Status.OK and ready.found.startswith(f"http://127.0.0.1:{own}: the service of ")
        lock.publish_url(f"http://127.0.0.1:{unready}")
        assert is_mended(check_address("127.0.0.1", own, tmp_path), Status.PROBLEM)


def test_check_address_in_use_by_another_service_is_a_problem(url: str, tmp_path: Path) -> None:
    assert check_address("127.0.0.1", quiet_port(), tmp_path).status is Status.OK
    foreign = check_address("127.0.0.1", int(url.rpartition(":")[2]), tmp_path)
    assert is_mended(foreign, Status.PROBLEM) and f"not used by a service of {tmp_path}" in foreign.found
    assert is_mended(check_address("192.0.2.77", 8000, tmp_path), Status.PROBLEM)


def test_check_keys_public_host_needs_keys_and_haproxy() -> None:
    closed, opened = PipelineConfig(), PipelineConfig(access=AccessConfig(allow_without_keys=True))
    assert not_ok(check_keys("127.0.0.1", [], closed), check_keys("0.0.0.0", ["key"], closed)) == []
    assert not_ok(check_front("0.0.0.0", "/bin/haproxy")) == []
    assert is_mended(check_keys("0.0.0.0", [], closed), Status.PROBLEM)
    assert is_mended(check_keys("0.0.0.0", [], opened), Status.WARNING)
    assert is_mended(check_front("127.0.0.1", None), Status.WARNING)
    assert is_mended(check_front("0.0.0.0", None), Status.PROBLEM)


def test_check_labels_reports_test_or_expired_certificates(tmp_path: Path) -> None:
    now, missing = datetime.now(UTC), tmp_path / "none.pem"
    unmarked = LabelsConfig(invisible=False)
    for config in (LabelsConfig(), LabelsConfig(metadata=False), unmarked):
        assert is_mended(check_labels(config, tmp_path, now), Status.WARNING)
    assert "labels.invisible" in check_labels(unmarked, tmp_path, now).found
    assert not list(tmp_path.iterdir()), "the doctor makes no certificate"
    broken = LabelsConfig(certificate=missing, private_key=missing)
    assert is_mended(check_labels(broken, tmp_path, now), Status.PROBLEM)
    load_credentials(LabelsConfig(), tmp_path)
    (pem,) = tmp_path.rglob("*.pem")
    own = LabelsConfig(certificate=pem, private_key=pem)
    assert check_labels(own, tmp_path, now).status is Status.OK
    assert is_mended(check_labels(own, tmp_path, now + timedelta(days=3640)), Status.WARNING)


def test_check_token_missing_or_empty_is_a_problem(tmp_path: Path) -> None:
    assert "first start" in check_token({}, tmp_path).found
    assert not_ok(check_token({"RAY_AUTH_TOKEN": "t"}, tmp_path)) == []
    assert is_mended(check_token({"RAY_AUTH_MODE": "disabled"}, tmp_path), Status.WARNING)
    assert is_mended(check_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, tmp_path), Status.PROBLEM)
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        for home, warns in ((tmp_path, False), (Path(name), True)):  # pytest's folder is closed to others
            token = home / ".ray" / "auth_token"
            token.parent.mkdir(mode=0o755)
            token.write_text("")
            assert is_mended(check_token({}, home), Status.PROBLEM)
            token.write_text("secret")
            token.chmod(0o644)
            assert (check_token({}, home).status is Status.WARNING) == warns
            token.chmod(0o600)
            assert check_token({}, home).found.endswith("(600)")


def test_plan_service_adds_up_the_deployments(repo_root: Path, tmp_path: Path) -> None:
    cpu = plan_service(DoctorOptions(repo_root / "serve_config.cpu.yaml", data_dir=tmp_path))
    gpu = plan_service(DoctorOptions(repo_root / "serve_config.yaml", host="0.0.0.0", port=80, object_store_bytes=5))
    assert (cpu.num_gpus, cpu.host, cpu.port, cpu.pipeline.data_dir) == (0, "127.0.0.1", 8000, tmp_path)
    assert cpu.num_cpus <= 2
    auto, text = tmp_path / "auto.yaml", (repo_root / "serve_config.cpu.yaml").read_text()
    auto.write_text(text.replace("num_replicas: 1\n", "num_replicas: auto\n"))
    assert plan_service(DoctorOptions(auto, data_dir=tmp_path)).num_cpus == cpu.num_cpus
    assert (gpu.num_gpus, gpu.host, gpu.port, gpu.object_store_bytes) == (1, "0.0.0.0", 80, 5)
    assert gpu.num_cpus == pytest.approx(2 * 0.25 + 3 * 0.25 + 2 * 0.5 + 1 + 2 + 2 * 2)  # painters have their GPU
    chunk = cpu.pipeline.render.max_chunk_bytes
    assert cpu.in_flight_bytes == 3 * cpu.pipeline.render.chunk_window * 2 * chunk  # three calls of one Studio


def test_check_state_unreachable_database_is_a_problem(postgres: PostgresServer) -> None:
    assert storage.check_state(None).status is Status.OK
    assert "PostgreSQL" in storage.check_state(postgres.new_database()).found
    nobody = storage.check_state("postgresql://lipwright@127.0.0.1:1/none")
    assert is_mended(nobody, Status.PROBLEM)


def test_check_files_missing_bucket_is_a_problem(s3: S3Server, tmp_path: Path) -> None:
    assert storage.check_files(PipelineConfig(data_dir=tmp_path)).status is Status.OK
    url = s3.new_bucket()
    found = storage.check_files(PipelineConfig(data_dir=tmp_path, files=url))
    assert found.status is Status.OK and "some/prefix" in found.found and "endpoint" not in found.found
    nobodys = PipelineConfig(data_dir=tmp_path, files=url.replace("lipwright", "nobodys"))
    assert is_mended(storage.check_files(nobodys), Status.PROBLEM)


_LISTENER = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def _listener(name: str, *arguments: str) -> Iterator[int]:
    """The port of a process of this name, which listens on loopback."""
    command, pipe = [name, "-c", _LISTENER, *arguments], subprocess.PIPE
    with subprocess.Popen(command, executable=sys.executable, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def test_check_agent_port_in_use_is_a_warning() -> None:
    with _listener("ray::DashboardAgent") as port:
        one = check_agent_port(port, 1)
        assert one.status is Status.OK and "a second one on this machine needs --dashboard-agent" in one.found
        two = check_agent_port(port, 2)
        assert is_mended(two, Status.WARNING) and "in use by one of 2 Rays" in two.found
        assert "--dashboard-agent-listen-port=PORT" in two.fix
    assert check_agent_port(port, 0).found == f"{port} is free"
    with _listener("/opt/other-program") as port:
        result = check_agent_port(port, 1)
    assert is_mended(result, Status.WARNING)
    assert "in use by /opt/other-program (process" in result.found and "No available agent" in result.found


def test_num_rays_on_counts_rays_of_the_port() -> None:
    port = free_port()
    agent = f"python -u agent.py --listen-port={port} --temp-dir=/tmp/ray"
    with _listener("/ray/raylet/raylet", f"--dashboard_agent_command={agent}"):
        assert (num_rays_on(port), num_rays_on(port // 10)) == (1, 0)
    assert num_rays_on(port) == 0


MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("available", "shm_free", "wanted", "expected"),
    [
        (10 * GIB, 64 * MIB, None, 3 * GIB),  # 30 % of the memory
        (10 * GIB, 64 * MIB, 200 * MIB, 200 * MIB),
        (100 * GIB, 64 * MIB, None, 10**10),  # without room in shared memory, Ray stops at 10 GB
        (100 * GIB, 100 * GIB, None, 30 * GIB),
    ],
)
def test_store_bytes_equals_rays_default(available: int, shm_free: int, wanted: int | None, expected: int) -> None:
    from ray._private import ray_constants

    assert resources.store_bytes(available, shm_free, wanted) == pytest.approx(expected, abs=1)
    assert ray_constants.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION == 0.3
    assert ray_constants.REQUIRE_SHM_SIZE_THRESHOLD == 10**10
    assert ray_constants.OBJECT_STORE_MINIMUM_MEMORY_BYTES == 75 * MIB


@pytest.mark.parametrize(
    ("store", "status", "says"),
    [
        (64 * MIB, Status.OK, ""),
        (GIB, Status.WARNING, "slower, never stuck"),
        (11 * 10**9, Status.PROBLEM, "Ray will not start"),
    ],
)
def test_check_shared_memory_smaller_than_the_store(store: int, status: Status, says: str) -> None:
    result = resources.check_shared_memory(store, FileSystem(Path("/dev/shm"), "tmpfs", 64 * MIB, 64 * MIB))
    assert result.status is status
    assert says in result.found
    assert ("--shm-size" in result.fix) == (status is not Status.OK)
    assert "--object-store-memory" not in result.fix  # 64 MiB are fewer than Ray's least
    result = resources.check_shared_memory(2 * GIB, FileSystem(Path("/dev/shm"), "tmpfs", GIB, GIB))
    assert result.fix.endswith(f"--object-store-memory {GIB}.")


@pytest.mark.parametrize(
    ("store", "status"), [(70 * MIB, Status.PROBLEM), (200 * MIB, Status.WARNING), (400 * MIB, Status.OK)]
)
def test_check_object_store_smaller_than_the_segments(store: int, status: Status) -> None:
    result = resources.check_object_store(store, in_flight_bytes=384 * MIB)
    assert result.status is status
    assert ("slower, never stuck" in result.found) == (status is Status.WARNING)
    assert ("--object-store-memory 402653184" in result.fix) == (status is not Status.OK)


def test_check_cpus_memory_and_files_too_few_are_reported() -> None:
    assert not_ok(resources.check_cpus(2, 1.8), resources.check_memory(8 * GIB, 6 * GIB)) == []
    assert not_ok(resources.check_open_files(-1), resources.check_open_files(65536)) == []
    assert is_mended(resources.check_cpus(2, 8.75), Status.PROBLEM)
    assert is_mended(resources.check_memory(8 * GIB, 1 * GIB), Status.WARNING)
    assert is_mended(resources.check_open_files(1024), Status.WARNING)


def test_num_cpus_and_memory_bytes_read_cgroup_limits(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 * MIB}\n")
    assert num_cpus(tmp_path) == 0.5
    assert memory_bytes(tmp_path) == 64 * MIB
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert num_cpus(tmp_path) >= 1
    assert memory_bytes(tmp_path) > 64 * MIB


def test_file_system_of_a_missing_path_is_its_parents(tmp_path: Path) -> None:
    disks = ("/dev/a / ext4", f"host:/b {tmp_path.resolve()} nfs4", f"/dev/c {tmp_path}x xfs")
    mounts = tmp_path / "mounts"
    mounts.write_text("".join(f"{disk} rw 0 0\n" for disk in disks))
    found = file_system(tmp_path / "a" / "b", mounts)
    assert (found.path, found.kind) == (tmp_path, "nfs4")
    assert 0 < found.free_bytes <= found.total_bytes
    assert file_system(tmp_path, tmp_path / "no mounts, as on macOS").kind == "unknown"


@pytest.fixture(autouse=True)
def _default_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIPWRIGHT_OBJECT_STORE_BYTES", raising=False)


def _found(output: str) -> dict[str, dict[str, str]]:
    return {result["check"]: result for result in json.loads(output)["findings"]}


def test_doctor_json_has_every_check_and_writes_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    output = run("doctor", "--json", "--port", "8123", "--data-dir", str(data_dir)).stdout
    results, about = _found(output), json.loads(output)
    assert about["config"].endswith(".yaml")
    assert (about["address"], about["data_dir"]) == ("127.0.0.1:8123", str(data_dir))
    assert {"Python", "Packages", "Weights", "Encoders", "Decoders", "CPU", "Memory", "GPU"} <= results.keys()
    assert {"Shared memory", "Object store", "Data folder", "Disk", "HTTP port", "Ray agent port"} <= results.keys()
    assert all(set(result) == {"check", "status", "found", "expected", "mend"} for result in results.values())
    assert not data_dir.exists()


def test_doctor_problem_is_printed_with_its_fix(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("doctor", "--port", port, "--data-dir", str(tmp_path), "--object-store-memory", "209715200")
    assert done.exit_code == 1, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["config:", "address:", "data"]
    assert lines[1].endswith(f" 127.0.0.1:{port}") and lines[2].endswith(f" {tmp_path}")
    report = " ".join(done.stdout.split())
    assert f"problem HTTP port 127.0.0.1:{port}: " in report
    assert " expected: a free port fix: Use another port (--port)" in report
    (store,) = [line for line in lines if " Object store " in line]
    assert store.startswith("warning  Object store")
    assert "200 MiB" in store


def test_doctor_unreadable_config_is_a_problem(tmp_path: Path) -> None:
    done = run("doctor", "--json", "--config", str(tmp_path / "none.yaml"))
    assert done.exit_code == 1
    results = _found(done.stdout)
    assert (results["Serve config"]["status"], results["Weights"]["status"]) == ("problem", "ok")
