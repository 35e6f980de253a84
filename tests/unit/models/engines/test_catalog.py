"""The registry: engines by name, their variants, and what each lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import PipelineConfig
from errors import OptionError
from models.engines.catalog import EngineCatalog, engine_list, engine_names, make_engine
from models.engines.registry import ENGINES
from models.engines.weights.store import WeightsStore
from tests.unit.models.engines.weights.toy_engines import ENGINES as TOYS
from tests.unit.models.engines.weights.toy_engines import ToyEngine
from tests.unit.models.engines.weights.weights_files import safetensors_file


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights", TOYS)


def test_make_engine_gives_engine_its_weights(store: WeightsStore, tmp_path: Path) -> None:
    entry = store.add(safetensors_file(tmp_path / "w"), name="gan")
    assert engine_names(store) == ("free", "toy", "toy:gan")
    engine = make_engine("toy:gan", store, {"batch_size": 4})
    assert isinstance(engine, ToyEngine)
    assert engine.settings.options == {"batch_size": 4}
    assert engine.settings.weights.path("generator") == store.path_of(entry)
    assert isinstance(make_engine("toy", store, {}), ToyEngine), "its weights are asked for when they are needed"
    for name in ("toy:other", "nonesuch", ""):
        with pytest.raises(OptionError, match="expected one of free, toy, toy:gan, found"):
            make_engine(name, store, {})


def test_engine_list_names_missing_weights(store: WeightsStore, tmp_path: Path) -> None:
    store.add(safetensors_file(tmp_path / "w"), name="gan")
    free, toy, gan = engine_list(store)
    assert (free.name, free.title, free.is_installed) == ("free", "Free faces", True)
    assert (free.missing, free.licences) == ((), ())
    assert (toy.title, toy.is_installed) == ("Toy faces", False)
    assert [(each.role, each.is_required) for each in toy.missing] == [("generator", True), ("mixer", False)]
    assert toy.missing[0].add_command == "lipwright models add FILE_OR_URL --engine toy --role generator"
    assert toy.licences == ("Toy generator: Personal and research use only.", "Toy mixer: Apache-2.0.")
    assert (gan.name, gan.title, gan.is_installed) == ("toy:gan", "Toy faces", True)
    assert [each.role for each in gan.missing] == ["mixer"]
    store.remove("toy:gan")
    assert [each.name for each in engine_list(store)] == ["free", "toy"]


def test_catalog_makes_each_engine_once(tmp_path: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path, engines={"toy": {"batch_size": 4}})
    entry = WeightsStore(tmp_path / "weights", TOYS).add(safetensors_file(tmp_path / "w"), name="gan")
    catalog = EngineCatalog(config, 3, TOYS)
    assert tuple(catalog.names) == ("free", "toy", "toy:gan")
    engine = catalog.engine("toy:gan")
    assert isinstance(engine, ToyEngine)
    assert (engine.settings.options, engine.settings.num_threads) == ({"batch_size": 4}, 3)
    assert engine.settings.weights.path("generator").name == entry.file_name
    assert catalog.engine("toy:gan") is engine
    store = WeightsStore(tmp_path / "weights", TOYS)
    store.remove("toy:gan")
    replaced = store.add(safetensors_file(tmp_path / "w2", fill=1), name="gan")
    reloaded = catalog.engine("toy:gan")
    assert isinstance(reloaded, ToyEngine) and reloaded is not engine, "loaded again with its new weights"
    assert reloaded.settings.weights.path("generator").name == replaced.file_name != entry.file_name
    with pytest.raises(OptionError, match="expected one of free, toy, toy:gan, found 'nonesuch'"):
        catalog.engine("nonesuch")


def test_engine_list_holds_built_in_engines(tmp_path: Path) -> None:
    records = engine_list(WeightsStore(tmp_path))
    assert [each.name for each in records] == list(ENGINES)
    assert records[0].is_installed, "the engine of a fresh service needs nothing"
    assert all(each.title for each in records)


def test_check_one_of_two_alternative_files_suffices(tmp_path: Path) -> None:
    from tests.random_weights.ultralight import save_ultralight, save_wenet

    store, catalog = WeightsStore(tmp_path / "weights"), EngineCatalog(PipelineConfig(data_dir=tmp_path))
    store.add(save_ultralight(tmp_path / "anna.pth", "wenet"), "ultralight")
    with pytest.raises(OptionError, match="missing HuBERT.*--engine ultralight --role hubert"):
        catalog.check("ultralight")
    store.add(save_wenet(tmp_path / "encoder.onnx"), "ultralight")
    catalog.check("ultralight")
    (record,) = (each for each in engine_list(store) if each.name == "ultralight")
    assert [(role.role, role.is_required) for role in record.missing] == [("hubert", False)]


def test_check_expressiveness_of_unsupporting_engine_raises(tmp_path: Path) -> None:
    catalog = EngineCatalog(PipelineConfig(data_dir=tmp_path), engines={**TOYS, "warp": ENGINES["warp"]})
    catalog.check("warp", 1.5)
    with pytest.raises(OptionError, match="engine free cannot scale the movement"):
        catalog.check("free", 1.5)
    catalog.check("free", 1.0)
    movable = [each.name for each in engine_list(WeightsStore(tmp_path)) if each.scales_movement]
    assert movable == ["warp"]
