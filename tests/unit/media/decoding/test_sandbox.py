"""A decoder that a file took over: what it can reach, and what it cannot."""

from __future__ import annotations

import importlib
import os
import pickle
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from config import DecoderConfig
from errors import MediaError, MediaLimitError
from media.decoding import wire
from media.decoding.channel import Channel
from media.decoding.decoder import Decoders
from media.decoding.sandbox import lacking_layers
from tests.unit.media import decoder_tasks

CLIP = Path("clip.mp4")
T = TypeVar("T")


@pytest.fixture
def whole_sandbox() -> None:
    """Skip where this kernel or this system lacks a layer."""
    landlock = pytest.importorskip("landlock")
    try:
        importlib.import_module("pyseccomp")  # which looks for libseccomp
        landlock.landlock_abi_version()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs libseccomp: {error}")
    except OSError as error:
        pytest.skip(f"needs Landlock: {error}")


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    os.environ["LIPWRIGHT_TEST_SECRET"] = "in nobody's hands"
    try:
        with Decoders(DecoderConfig()) as decoders:
            decoders.warm()
            yield decoders
    finally:
        del os.environ["LIPWRIGHT_TEST_SECRET"]


def _run(decoders: Decoders, work: Callable[[], T], file: Path = CLIP, writes: Path | None = None) -> T:
    return decoders.run(work, file=file, timeout_s=30, writes=writes)


def _ended(pids: list[int], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(psutil.pid_exists(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.usefixtures("whole_sandbox")
def test_a_decoder_reads_its_file_and_no_other(decoders: Decoders, tmp_path: Path) -> None:
    mine, keys = tmp_path / "mine", tmp_path / "api_keys.json"
    for path in (mine, keys):
        path.write_bytes(path.name.encode())
    assert _run(decoders, partial(decoder_tasks.read, mine), mine) == b"mine"
    with pytest.raises(OSError, match="Permission denied"):
        _run(decoders, partial(decoder_tasks.read, keys), mine)


@pytest.mark.usefixtures("whole_sandbox")
def test_a_decoder_can_do_nothing_but_decode(decoders: Decoders) -> None:
    assert _run(decoders, lacking_layers) == ""
    assert _run(decoders, decoder_tasks.tries) == ""
    assert _run(decoders, partial(decoder_tasks.in_status, "NoNewPrivs")) == "1"
    assert int(_run(decoders, partial(decoder_tasks.in_status, "CapEff")), 16) & ~0b1110 == 0


def test_what_is_not_confined_could() -> None:
    with Decoders(DecoderConfig(is_confined=False)) as decoders:
        assert "seccomp" in _run(decoders, lacking_layers)
        assert "passwords" in _run(decoders, partial(decoder_tasks.tries_without_fork))


def test_the_environment_of_a_decoder_holds_no_secret(decoders: Decoders) -> None:
    found = _run(decoders, decoder_tasks.environment)
    assert "PATH=" in found and "SECRET" not in found


def test_no_child_outlives_its_decoder(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    with Decoders(DecoderConfig(is_confined=False)) as decoders:
        assert _run(decoders, partial(decoder_tasks.leave_children, pid_file), writes=tmp_path) == "left"
        pids = [int(pid) for pid in pid_file.read_text().split()]
        assert len(pids) == 2 and _ended(pids)


def test_no_child_outlives_the_nursery(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    with Decoders(DecoderConfig(is_confined=False)) as decoders:
        decoder = decoders.open(partial(decoder_tasks.stay_with_children, pid_file), CLIP)
        deadline = time.monotonic() + 20
        while not pid_file.exists() or not pid_file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pids = [int(pid) for pid in pid_file.read_text().split()]
    assert _ended(pids)
    decoder.close()


def test_an_answer_is_never_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    ours, theirs = Channel.pair()
    with theirs:
        for data in (pickle.dumps(decoder_tasks.Trap(sprung)), b"VideoInfo {}", b'int "7"', b"Trap {}", b""):
            theirs.send(b"i" + data)
            with pytest.raises(wire.BadAnswerError):
                ours.receive(5)
        theirs.send(b"f")
        with pytest.raises(wire.BadAnswerError, match="memory file"):
            ours.receive(5)
    assert not sprung.exists()
    ours.close()


def test_a_decoder_that_answers_with_something_else_is_the_files_error(decoders: Decoders) -> None:
    with pytest.raises(MediaError, match=r"clip\.mp4: .* answers as none"):
        decoders.open(decoder_tasks.babble, CLIP).receive(20)


def test_memory_is_bounded_for_all_decoders_together(decoders: Decoders) -> None:
    config = DecoderConfig(max_shared_memory_bytes=400 * 1024**2)
    with Decoders(config) as small:
        assert _run(small, partial(decoder_tasks.hold, 300 * 1024**2, 1)) == 1
        with decoders.open(partial(decoder_tasks.hold_and_tell, 200 * 1024**2), CLIP) as other:
            assert other.receive(20).value == "held"  # of another replica
            with pytest.raises(MediaLimitError, match=r"clip\.mp4: .* 400 MiB"):
                _run(small, partial(decoder_tasks.hold, 300 * 1024**2, 20))
            assert _run(small, partial(decoder_tasks.hold, 150 * 1024**2, 1)) == 1  # the other one is larger
