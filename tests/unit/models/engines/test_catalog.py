import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from lipwright.config import PipelineConfig
from lipwright.errors import OptionError
from models.engines.catalog import EngineCatalog, engine_list, engine_names, post_processor_list
from models.engines.protocol import WeightsSpec
from models.engines.registry import BUILT_IN, ENGINES
from models.engines.weights.store import WeightsStore
from tests.conftest import REPO_ROOT
from tests.random_weights.restoration import save_restoration
from tests.unit.models.engines.weights.toy_engines import ENGINES as TOYS
from tests.unit.models.engines.weights.toy_engines import ToyEngine
from tests.unit.models.engines.weights.weights_files import safetensors_file


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights", TOYS)


def test_engine_list_of_fresh_service_starts_with_installed(tmp_path: Path) -> None:
    records = engine_list(WeightsStore(tmp_path))
    assert [each.name for each in records] == list(ENGINES)
    assert records[0].is_installed, "it needs nothing"
    assert all(each.title for each in records)


def test_catalog_makes_each_engine_once(store: WeightsStore, tmp_path: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path, engines={"toy": {"batch_size": 4}})
    entry = store.add(safetensors_file(tmp_path / "w"), name="gan")
    catalog = EngineCatalog(config, 3, TOYS)
    assert engine_names(store) == ("free", "toy", "toy:gan")
    engine = catalog.engine("toy:gan")
    assert isinstance(engine, ToyEngine)
    assert (engine.settings.options, engine.settings.num_threads) == ({"batch_size": 4}, 3)
    assert engine.settings.weights.path("generator").name == entry.file_name
    assert catalog.engine("toy:gan") is engine
    store.remove("toy:gan")
    replaced = store.add(safetensors_file(tmp_path / "w2", fill=1), name="gan")
    reloaded = catalog.engine("toy:gan")
    assert isinstance(reloaded, ToyEngine) and reloaded is not engine, "loaded again with its new weights"
    assert reloaded.settings.weights.path("generator").name == replaced.file_name != entry.file_name
    assert isinstance(catalog.engine("toy"), ToyEngine), "its weights are asked for when they are needed"
    for name in ("toy:other", "nonesuch", ""):
        with pytest.raises(OptionError, match=f"expected one of free, toy, toy:gan, found '{name}'"):
            catalog.engine(name)


class EitherEngine(ToyEngine):
    """Works with one of two files."""

    weights: ClassVar[tuple[WeightsSpec, ...]] = tuple(
        replace(role, is_required=True, alternative=other)
        for role, other in zip(ToyEngine.weights, ("mixer", "generator"), strict=True)
    )


def test_check_one_of_two_alternative_files_suffices(tmp_path: Path) -> None:
    engines = {"either": EitherEngine}
    store = WeightsStore(tmp_path / "weights", engines)
    catalog = EngineCatalog(PipelineConfig(data_dir=tmp_path), engines=engines)
    with pytest.raises(OptionError, match="missing Toy generator, Toy mixer.*--engine either --role generator"):
        catalog.check("either")
    store.add(safetensors_file(tmp_path / "w"), "either")
    catalog.check("either")
    (record,) = engine_list(store)
    assert [(role.role, role.is_required) for role in record.missing] == [("mixer", False)]


def test_variant_of_a_post_processor_is_used_with_its_weights(tmp_path: Path) -> None:
    store, catalog = WeightsStore(tmp_path / "weights"), EngineCatalog(PipelineConfig(data_dir=tmp_path))
    entry = store.add(save_restoration(tmp_path / "codeformer.onnx"), name="codeformer")
    assert [(each.name, each.is_installed) for each in post_processor_list(store)] == [
        ("restoration", False),
        (entry.name, True),
    ]
    catalog.check("warp+restoration:codeformer")
    assert entry.sha256 in catalog.revision("warp+restoration:codeformer")
    assert store.verify() == {entry: None}
    for step, command in (("restoration", ""), ("restoration:other", " --name other")):
        with pytest.raises(OptionError, match=f"missing Face restoration.* --engine restoration{command} --role"):
            catalog.check(f"warp+{step}")


def test_check_expressiveness_of_unsupporting_engine_raises(tmp_path: Path) -> None:
    catalog = EngineCatalog(PipelineConfig(data_dir=tmp_path), engines={**TOYS, "warp": ENGINES["warp"]})
    catalog.check("warp", 1.5)
    with pytest.raises(OptionError, match="engine free cannot scale the movement"):
        catalog.check("free", 1.5)
    catalog.check("free", 1.0)
    movable = [each.name for each in engine_list(WeightsStore(tmp_path)) if each.scales_movement]
    assert movable == ["warp"]


_ENGINE = """
from typing import ClassVar

from models.engines.warp.engine import WarpEngine


class HelloEngine(WarpEngine):
    title: ClassVar[str] = "Hello from another package"
    name = "hello"
"""

_LIST = """
import json, sys
from pathlib import Path
from lipwright.config import PipelineConfig
from models.engines.catalog import EngineCatalog, engine_list
from models.engines.registry import ENGINES
from models.engines.weights.store import WeightsStore

was_imported = "hello_engine" in sys.modules
listed = {record.name: record.title for record in engine_list(WeightsStore(Path(sys.argv[1])))}
catalog = EngineCatalog(PipelineConfig(data_dir=Path(sys.argv[1])))
catalog.check("hello")
engine = catalog.engine("hello")
print(json.dumps([list(ENGINES), was_imported, listed["hello"], engine.name, type(engine).__module__]))
"""


def _install(folder: Path, package: str, entry_points: str) -> None:
    """Lay down what pip leaves of an installed package."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lipwright.engines]\n{entry_points}\n")


def _run(code: str, site: Path = REPO_ROOT, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process that finds packages in `site`, too."""
    environment = {**os.environ, "PYTHONPATH": f"{REPO_ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=REPO_ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_discover_engines_lists_engine_of_other_package(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _install(site, "hello_engine", "hello = hello_engine:HelloEngine")
    (site / "hello_engine.py").write_text(_ENGINE)
    done = _run(_LIST, site, str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    names, was_imported, title, name, module = json.loads(done.stdout)
    assert names[: len(BUILT_IN)] == ["warp", "musetalk", "wav2lip"]
    assert "hello" in names
    assert not was_imported, "discovery imports no package"
    assert (title, name, module) == ("Hello from another package", "hello", "hello_engine")


def test_discover_engines_invalid_name_logs_warning(tmp_path: Path) -> None:
    taken = "the name is taken"
    reasons = {"wav2lip": taken, "restoration": taken, "Hello:World": "expected a name like my_engine"}
    for number, name in enumerate(reasons):
        _install(tmp_path, f"hello_{number}", f"{name} = hello_{number}:HelloEngine")
    code = "from models.engines.registry import ENGINES; print(ENGINES['wav2lip'], *ENGINES.values())"
    done = _run(code, tmp_path)
    wav2lip, *engines = done.stdout.split()
    assert wav2lip == "models.engines.wav2lip.engine:Wav2LipEngine"
    assert not [engine for engine in engines if engine.startswith("hello_")]
    warnings = [line for line in done.stderr.splitlines() if "hello_" in line]
    for number, reason in enumerate(reasons.values()):
        assert any(f"hello_{number}" in line and reason in line for line in warnings), done.stderr


def test_engine_class_failed_import_names_engine(tmp_path: Path) -> None:
    _install(tmp_path, "hello_engine", "hello = hello_engine:HelloEngine")
    code = "from models.engines.registry import engine_class; engine_class('hello')"
    done = _run(code, tmp_path)
    assert "ConfigError: engine hello_engine:HelloEngine: cannot be imported" in done.stderr


_ENGINES = "models.engines"
_MODULES = [f"{_ENGINES}.{name}.engine" for name in ("musetalk", "restoration", "wav2lip")]


def _imported(*modules: str) -> set[str]:
    """Return the packages that a process has loaded once it has imported these modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = _run(code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_graph_imports_no_library_of_single_replicas() -> None:
    assert not _imported("graph") & {"torch", "onnxruntime", "numba", "librosa", "scipy"}


def test_engines_and_store_import_no_network_library() -> None:
    modules = (*_MODULES, f"{_ENGINES}.paste.crop", f"{_ENGINES}.paste.blend")
    assert not _imported(*modules) & {"torch", "onnxruntime", "diffusers", "librosa"}
    assert not _imported(f"{_ENGINES}.warp.engine") & {"numba"}
    assert not _imported(f"{_ENGINES}.weights.store") & {"torch", "onnxruntime", "onnx", "cv2", "scipy"}
