import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from lipwright.errors import InputError, NotFoundError, OptionError, StateError, StorageFullError, WeightsError
from models.engines.protocol import EngineClass, WeightsSpec
from models.engines.weights.recognition import AddRequest
from models.engines.weights.store import WeightsStore
from models.engines.weights.upload import StagedFile
from tests.unit.models.engines.weights import weights_files
from tests.unit.models.engines.weights.toy_engines import ENGINES, TwinEngine


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "data" / "weights", ENGINES)


def test_add_recognises_and_stores_file(store: WeightsStore, tmp_path: Path) -> None:
    checkpoint = {"state_dict": weights_files.state(prefix="module.")}
    source = weights_files.torch_file(tmp_path / "Wav2 Lip (GAN).pth", checkpoint)
    entry = store.add(source)
    assert (entry.name, entry.role, entry.format, entry.label) == ("toy", "generator", "torch", "Wav2_Lip_(GAN).pth")
    assert store.path_of(entry).read_bytes() == source.read_bytes()
    assert store.path_of(entry).parts[-3:] == ("toy", "generator", f"{entry.sha256[:16]}-Wav2_Lip_(GAN).pth")
    assert store.for_engine("toy").path("generator") == store.path_of(entry)
    assert source.is_file(), "the user's own file stays"
    # Another process sees the same.
    assert WeightsStore(store.folder, ENGINES).list() == (entry,)


def test_add_second_role_joins_variant(store: WeightsStore, tmp_path: Path) -> None:
    first = store.add(weights_files.safetensors_file(tmp_path / "a.safetensors"))
    gan = store.add(weights_files.safetensors_file(tmp_path / "b.pth", fill=1), name="gan")
    mixer = store.add(weights_files.onnx_file(tmp_path / "c.onnx"), engine="toy", name="gan")
    assert [each.name for each in (first, gan, mixer)] == ["toy", "toy:gan", "toy:gan"]
    weights = pickle.loads(pickle.dumps(store.for_engine("toy:gan")))
    assert (weights.path("generator"), weights.path("mixer")) == (store.path_of(gan), store.path_of(mixer))
    assert store.for_engine("toy").has("generator") and not store.for_engine("toy").has("mixer")


def test_path_missing_role_names_add_command(store: WeightsStore) -> None:
    with pytest.raises(WeightsError) as missing:
        store.for_engine("toy:gan").path("generator")
    assert str(missing.value) == (
        "toy:gan has no generator (Toy generator). "
        "Add it: lipwright models add FILE_OR_URL --engine toy --name gan --role generator"
    )


def test_add_file_of_known_role_changes_nothing(store: WeightsStore, tmp_path: Path) -> None:
    source = weights_files.safetensors_file(tmp_path / "a.pth")
    entry = store.add(source)
    inode = store.path_of(entry).stat().st_ino
    assert store.add(source) == entry
    assert store.path_of(entry).stat().st_ino == inode, "readers are not disturbed"
    with pytest.raises(StateError, match=r"has another generator already \(a.pth\).*--name VARIANT.*remove toy"):
        store.add(weights_files.safetensors_file(tmp_path / "b.pth", fill=1))
    assert store.list() == (entry,)


def test_verify_finds_changed_file_and_add_repairs(store: WeightsStore, tmp_path: Path) -> None:
    source = weights_files.safetensors_file(tmp_path / "w.pth")
    entry = store.add(source)
    mixer = store.add(weights_files.onnx_file(tmp_path / "m.onnx"))
    weights = store.for_engine("toy")
    path = weights.path("generator")
    assert store.verify() == {entry: None, mixer: None}
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    fault = store.verify("toy")[entry]
    assert fault is not None and f"expected w.pth with sha256 {entry.sha256}, found " in fault
    with pytest.raises(WeightsError, match=r"Add it again: lipwright models add FILE_OR_URL --engine toy"):
        weights.path("generator")
    assert weights.path("mixer"), "the other one is sound"
    again = store.add(source)
    assert weights.path("generator").read_bytes() == source.read_bytes()
    shutil.rmtree(path.parent)
    assert not weights.has("generator")
    assert "cannot be read" in (store.verify("toy")[again] or "")


def test_verify_applies_current_engine_mismatch(store: WeightsStore, tmp_path: Path) -> None:
    class Changed(TwinEngine):
        weights: ClassVar[tuple[WeightsSpec, ...]] = (
            WeightsSpec("generator", "Toy generator", "MIT.", lambda table: "expected other weights"),
        )

    entry = store.add(weights_files.safetensors_file(tmp_path / "w.pth"))
    assert WeightsStore(store.folder, {"toy": Changed}).verify()[entry] == "toy generator: expected other weights"
    assert "expected one of other" in (WeightsStore(store.folder, {"other": TwinEngine}).verify()[entry] or "")


def test_remove_deletes_file_and_entry(store: WeightsStore, tmp_path: Path) -> None:
    generator = store.add(weights_files.safetensors_file(tmp_path / "w.pth"))
    mixer = store.add(weights_files.onnx_file(tmp_path / "m.onnx"))
    gan = store.add(weights_files.safetensors_file(tmp_path / "w.pth"), name="gan")
    assert store.remove("toy", "mixer") == (mixer,)
    assert store.remove("toy") == (generator,)
    assert store.list() == (gan,)
    assert not store.path_of(generator).parents[1].exists() and store.path_of(gan).is_file()
    with pytest.raises(NotFoundError, match="no weights of 'toy'"):
        store.remove("toy")
    with pytest.raises(NotFoundError, match="no weights of 'toy:gan' of the role 'mixer'"):
        store.remove("toy:gan", "mixer")


def test_add_unknown_file_reports_reason_of_each_engine(store: WeightsStore, tmp_path: Path) -> None:
    source = weights_files.safetensors_file(tmp_path / "w.pth", ({"face.weight": (4, 3, 3, 3)}))
    with pytest.raises(WeightsError) as refused:
        store.add(source)
    assert "toy generator: expected face.weight of (4, 6, 3, 3), found (4, 3, 3, 3)" in str(refused.value)
    assert "toy mixer: expected a mel and a face, found ()" in str(refused.value)
    assert {path.name for path in store.folder.rglob("*") if path.is_file()} <= {".lock", "index.json"}


def test_add_uses_requested_engine_and_role(store: WeightsStore, tmp_path: Path) -> None:
    source = weights_files.safetensors_file(tmp_path / "w.pth")
    twins: Mapping[str, str | EngineClass] = {**ENGINES, "twin": TwinEngine}
    both = WeightsStore(store.folder, twins)
    with pytest.raises(OptionError, match="--engine toy --role generator, --engine twin --role generator"):
        both.add(source)
    assert both.add(source, engine="twin").name == "twin"
    with both.stage() as staged, pytest.raises(OptionError, match="Available: toy generator, toy mixer"):
        staged.copy(source)
        both.recognise(staged, source.name, AddRequest("toy", "vae"))
    missing = tmp_path / "not-read"  # what cannot work is refused before anything is read
    with pytest.raises(OptionError, match="Available: none"):
        store.add(missing, engine="free")
    with pytest.raises(OptionError, match="small letters"):
        store.add(missing, engine="toy", name="../../etc")


def test_add_copies_external_data(store: WeightsStore, tmp_path: Path) -> None:
    source, data = weights_files.external_onnx(tmp_path / "m.onnx", "parts/w.bin"), tmp_path / "parts" / "w.bin"
    with store.stage() as staged, pytest.raises(WeightsError, match="all its data in one file"):
        staged.write(source.read_bytes())
        store.recognise(staged, "m.onnx", AddRequest())
    with pytest.raises(WeightsError, match="in parts/w.bin beside it, found none"):
        store.add(source)
    data.parent.mkdir()
    data.write_bytes(bytes(72))
    entry = store.add(source)
    fingerprint = store.for_engine("toy").fingerprint("mixer")
    kept = store.path_of(entry).parent / "parts" / "w.bin"
    assert kept.read_bytes() == bytes(72)
    assert store.verify() == {entry: None}
    # Earlier versions wrote such indices, and can read this one.
    (written,) = json.loads((store.folder / "index.json").read_text())["entries"]
    assert [each["location"] for each in written["companions"]] == ["parts/w.bin"]
    names = "name", "role", "label", "format", "sha256", "num_bytes", "companions", "source", "added_at"
    assert set(written) == set(names)
    assert WeightsStore(store.folder, ENGINES).list() == (entry,)
    data.write_bytes(bytes([1]) * 72)
    with pytest.raises(StateError, match="has another mixer already"):
        store.add(source)
    kept.write_bytes(bytes([1]) * 72)
    assert "expected parts/w.bin with sha256" in (store.verify()[entry] or "")
    with pytest.raises(WeightsError, match="expected parts/w.bin"):
        store.for_engine("toy").path("mixer")
    store.remove("toy", "mixer")
    assert store.add(source).sha256 == entry.sha256
    assert fingerprint != store.for_engine("toy").fingerprint("mixer")


def test_add_unusable_file_raises(store: WeightsStore, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(InputError, match="expected a file"):
            store.add(path)
    source = weights_files.safetensors_file(tmp_path / "w.safetensors")
    os.truncate(source, shutil.disk_usage(tmp_path).free + 1024**3)  # takes no room itself
    with pytest.raises(StorageFullError, match="w.safetensors: needs "):
        store.add(source)


def test_list_damaged_index_raises_weights_error(store: WeightsStore, tmp_path: Path) -> None:
    store.add(weights_files.safetensors_file(tmp_path / "w.pth"))
    index = store.folder / "index.json"
    sound = index.read_text()
    for damage in (sound[:-20], sound.replace('"toy"', '"../../toy"'), sound.replace('"generator"', '".."')):
        index.write_text(damage)
        with pytest.raises(WeightsError, match="index.json"):
            store.list()


def test_add_from_two_processes_keeps_both(tmp_path: Path, repo_root: Path) -> None:
    """Each adds a variant of its own and one that both add; the index holds all three."""
    source = weights_files.safetensors_file(tmp_path / "w.safetensors")
    code = (
        "import sys; from pathlib import Path\n"
        "from models.engines.weights.store import WeightsStore\n"
        "from tests.unit.models.engines.weights.toy_engines import ENGINES\n"
        "store = WeightsStore(Path(sys.argv[1]), ENGINES)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for name in (sys.argv[3], 'both'): store.add(Path(sys.argv[2]), name=name)\n"
    )
    folder = tmp_path / "weights"
    command = [sys.executable, "-c", code, str(folder), str(source)]
    runs = [
        subprocess.Popen([*command, name], cwd=repo_root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    try:
        for run in runs:
            assert run.stdout is not None and run.stdout.readline() == "ready\n"
        for run in runs:
            assert run.stdin is not None
            run.stdin.write("\n")
            run.stdin.flush()
        assert [run.wait(90) for run in runs] == [0, 0]
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    store = WeightsStore(folder, ENGINES)
    assert [entry.name for entry in store.list()] == ["toy:both", "toy:one", "toy:two"]
    assert set(store.verify().values()) == {None}
    assert list((folder / ".stage").iterdir()) == []


def test_add_removes_staging_of_killed_process(store: WeightsStore) -> None:
    dead = store.folder / ".stage" / "dead"
    dead.mkdir(parents=True)
    StagedFile(dead).close()
    with store.stage() as staged, store.stage():
        assert staged.path.is_file(), "somebody writes there"
        assert not dead.exists()
    assert list((store.folder / ".stage").iterdir()) == []
