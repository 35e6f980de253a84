"""A decoder that a file took over: what it can reach, and what it cannot."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from lipwright.config import DecoderConfig
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.audio import extract_speech
from lipwright.media.audio_parts import AudioPart
from lipwright.media.decoding import reply_codec, sandbox
from lipwright.media.decoding.channel import Channel
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.decoding.memory_budget import budget_bytes, memory_bytes
from lipwright.media.decoding.sandbox import missing_layers
from lipwright.media.probe import probe_video
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from lipwright.storage.local.folder import written_atomically
from tests.unit.media import decoder_tasks
from tests.unit.media.clips import LIMITS, info_of, read_speech, write_segment
from tests.waiting import wait_until

needs_landlock = pytest.mark.skipif(not sandbox.is_available(), reason="needs Landlock")
needs_sandbox = pytest.mark.skipif(
    find_library("seccomp") is None or not sandbox.is_available(), reason="needs libseccomp.so.2 and Landlock"
)
_PR_SET_NO_NEW_PRIVS = 38
READ = sandbox.READ_FILE | sandbox.READ_DIR


def _restricted(rules: list[tuple[str, int]], attempt: Callable[[], object]) -> int:
    """0 if `attempt` succeeds in a process with these rules, else its errno."""

    def work() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        sandbox.restrict(rules)
        attempt()

    return _exit_code(work)


def _exit_code(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            work()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_landlock
def test_restrict_allows_only_the_rules_paths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    a, b, denied = tmp_path / "a", tmp_path / "b", errno.EACCES
    assert _restricted([(str(a), READ)], (a / "file").read_bytes) == 0
    assert _restricted([(str(a), READ)], (b / "file").read_bytes) == denied
    assert _restricted([(str(a), READ)], lambda: (a / "file").write_bytes(b"y")) == denied
    assert _restricted([(str(a), READ)], lambda: (a / "new").touch()) == denied
    assert _restricted([(str(a), READ)], lambda: os.listdir(a)) == 0
    assert _restricted([(str(b / "file"), READ)], (b / "file").read_bytes) == 0, "READ_DIR is ignored for a file"
    assert _restricted([(str(tmp_path / "gone"), READ), (str(a), READ)], (a / "file").read_bytes) == 0
    writes = READ | sandbox.WRITE_FILE | sandbox.MAKE_REG | sandbox.REMOVE_FILE | sandbox.TRUNCATE
    assert _restricted([(str(a), writes)], lambda: (a / "new").write_bytes(b"x")) == 0
    assert _restricted([(str(a), writes)], lambda: os.replace(a / "new", a / "file")) == 0
    assert _restricted([(str(a), writes)], (a / "file").unlink) == 0


@needs_landlock
def test_restrict_denies_signals_and_connections() -> None:
    denied = (errno.EPERM, errno.EACCES)
    if sandbox.abi_version() >= 6:
        assert _restricted([], lambda: os.kill(os.getppid(), 0)) in denied
    if sandbox.abi_version() >= 4:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert _restricted([], lambda: socket.create_connection(server.getsockname())) in denied


@pytest.mark.skipif("NoNewPrivs:\t1" in Path("/proc/self/status").read_text(), reason="it is set already")
@needs_landlock
def test_restrict_without_no_new_privs_fails() -> None:
    def as_user() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        sandbox.restrict([])

    assert _exit_code(as_user) == errno.EPERM


CLIP = Path("clip.mp4")
T = TypeVar("T")


@pytest.fixture(scope="module")
def unconfined() -> Iterator[Decoders]:
    """Decoders without a sandbox, of a process with a secret."""
    with pytest.MonkeyPatch.context() as patch, Decoders(DecoderConfig(sandbox=False)) as unconfined:
        patch.setenv("LIPWRIGHT_TEST_SECRET", "never given to decoders")
        unconfined.warm()
        yield unconfined


def _run(decoders: Decoders, work: Callable[[], T], file: Path = CLIP, writes: Path | None = None) -> T:
    return decoders.run(work, file=file, timeout_s=30, writes=writes)


def _wait_until_ended(pids: list[int]) -> None:
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), 60)


@needs_sandbox
@pytest.mark.parametrize(
    "owner",
    [
        os.geteuid(),
        pytest.param(12345, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")),
    ],
)
def test_sandbox_reads_only_its_file(decoders: Decoders, tmp_path: Path, owner: int) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    mine, keys = folder / "mine", folder / "api_keys.json"
    for path in (mine, keys):
        path.write_bytes(path.name.encode())
        path.chmod(0o600)
    for path in (mine, keys, folder):
        os.chown(path, owner, -1)
    assert _run(decoders, mine.read_bytes, mine) == b"mine"
    with pytest.raises(OSError, match="Permission denied"):
        _run(decoders, keys.read_bytes, mine)


@needs_sandbox
def test_sandbox_denies_everything_but_decoding(decoders: Decoders) -> None:
    assert _run(decoders, missing_layers) == ""
    assert _run(decoders, decoder_tasks.tries) == ""
    assert _run(decoders, partial(decoder_tasks.in_status, "NoNewPrivs")) == "1"
    for kind in ("CapEff", "CapPrm", "CapInh"):
        assert int(_run(decoders, partial(decoder_tasks.in_status, kind)), 16) == 0


@needs_sandbox
def test_sandbox_denies_attacks_on_others(decoders: Decoders, unconfined: Decoders, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    victim.chmod(0o600)
    before = victim.stat()
    assert _run(decoders, partial(decoder_tasks.attacks, victim)) == ""
    assert victim.stat() == before
    done = _run(unconfined, partial(decoder_tasks.attacks, victim))
    for attack in ("rt_tgsigqueueinfo", "F_SETOWN", "F_SETSIG", "FIOSETOWN", "chmod", "memfd_create", "PR_SET_NAME"):
        assert attack in done, "the attacks themselves work"


def test_unconfined_decoder_has_no_secret_in_its_environment(unconfined: Decoders) -> None:
    found = _run(unconfined, Path("/proc/self/environ").read_text)
    assert "PATH=" in found and "SECRET" not in found
    assert "seccomp" in _run(unconfined, missing_layers)


def test_children_end_with_their_decoder(unconfined: Decoders, tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    assert _run(unconfined, partial(decoder_tasks.leave_children, pid_file), writes=tmp_path) == "left"
    pids = [int(pid) for pid in pid_file.read_text().split()]
    assert len(pids) == 2
    _wait_until_ended(pids)


@pytest.mark.parametrize("is_killed", [False, True])
def test_children_end_with_the_forkserver(tmp_path: Path, is_killed: bool) -> None:
    pid_file, group = tmp_path / "pids", f"k{os.getpid() % 10_000}"
    with Decoders(DecoderConfig(sandbox=False), group=group) as decoders:
        decoder = decoders.open(partial(decoder_tasks.stay_with_children, pid_file), CLIP)
        wait_until(lambda: pid_file.exists() and len(pid_file.read_text().split()) == 2)
        pids = [int(pid) for pid in pid_file.read_text().split()]
        if is_killed:
            psutil.Process(pids[0]).parents()[1].kill()  # the fork server
            decoder.close()
            assert _run(decoders, os.getpid) > 0  # of the next forkserver
            _wait_until_ended(pids)
    _wait_until_ended(pids)
    decoder.close()


def test_channel_receive_never_unpickles(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    ours, theirs = Channel.pair()
    pickled = pickle.dumps(decoder_tasks.Trap(sprung))
    invalid: dict[bytes, str | None] = {
        b"i" + data: None for data in (pickled, b"VideoInfo {}", b'int "7"', b"Trap {}", b"")
    }
    invalid |= {b"f": "of kind b'f'", b"r" + (2**40).to_bytes(8, "big"): "at most 67108864 bytes"}
    with theirs:
        for data, message in invalid.items():
            theirs.send(data)
            with pytest.raises(reply_codec.InvalidReplyError, match=message):
                ours.receive(5)
    assert not sprung.exists()
    ours.close()


def test_receive_invalid_reply_is_a_media_error(decoders: Decoders) -> None:
    with pytest.raises(MediaError, match=r"clip\.mp4: .* sent an invalid reply"):
        decoders.open(decoder_tasks.babble, CLIP).receive(20)


def test_shared_memory_limit_counts_all_decoders() -> None:
    config, group = DecoderConfig(max_shared_memory_bytes=400 * 1024**2), f"t{os.getpid() % 10_000}"
    with Decoders(config, group=group) as small, Decoders(DecoderConfig(), group=group) as decoders:
        assert _run(small, partial(decoder_tasks.hold, 300 * 1024**2, 0.3)) == 1
        with decoders.open(partial(decoder_tasks.hold_and_tell, 200 * 1024**2), CLIP) as other:
            assert other.receive(20).value == "held"  # of another replica
            with pytest.raises(MediaLimitError, match=r"clip\.mp4: .* 400 MiB"):
                _run(small, partial(decoder_tasks.hold, 300 * 1024**2, 20))
            assert _run(small, partial(decoder_tasks.hold, 150 * 1024**2, 0.3)) == 1  # the other one is larger


def test_shared_memory_limit_counts_shared_pages() -> None:
    config, group = DecoderConfig(max_shared_memory_bytes=400 * 1024**2), f"s{os.getpid() % 10_000}"
    with Decoders(config, group=group) as decoders:
        assert _run(decoders, partial(decoder_tasks.hold_shared, 300 * 1024**2, 0.5)) == 1
        with pytest.raises(MediaLimitError, match=r"clip\.mp4: .* 400 MiB"):
            _run(decoders, partial(decoder_tasks.hold_shared, 500 * 1024**2, 20))


def test_budget_bytes_is_at_most_half_of_the_memory() -> None:
    assert budget_bytes(2**60) == memory_bytes() // 2
    assert budget_bytes(1024) == 1024
    config, work = DecoderConfig(max_shared_memory_bytes=2**60), partial(decoder_tasks.hold_and_tell, 1)
    with Decoders(config) as decoders, decoders.open(work, CLIP) as decoder:
        assert decoder.receive(30).value == "held"
        commands = (child.cmdline() for child in psutil.Process().children(recursive=True))
        assert any(str(memory_bytes() // 2) in command for command in commands)


def test_sandbox_allows_extract_concat_and_probe(decoders: Decoders, h264: Path, tmp_path: Path) -> None:
    segments, speech, out = (tmp_path / name for name in ("segments", "results/speech.npy", "results/result.mp4"))
    for folder in (segments, out.parent):
        folder.mkdir()
    with written_atomically(speech) as part:
        info = _run(decoders, partial(extract_speech, h264, part, LIMITS), h264, part.parent)
    assert info.duration_seconds == pytest.approx(2.4, abs=0.01) and len(read_speech(speech, 0.0, 2.4)) == 38400
    segment = write_segment(segments / "0.mp4", range(60), SegmentWriter(info_of(192, 128), 20, "veryfast", 1))
    with written_atomically(out) as part:
        join = partial(concat_segments, [segment], ResultSound([AudioPart(h264)]), part, info_of(192, 128), 60)
        decoders.run(join, file=h264, timeout_s=30, reads=[segments], writes=part.parent)
    assert _run(decoders, partial(probe_video, out, LIMITS), out).num_frames == 60
