"""Every hostile input is refused by name or gives a right result; the service stays healthy and calls nobody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import imageio_ffmpeg
import numpy as np
import pytest

from benchmarks.media_files import read_wav, write_wav
from tests.faults.health_probe import Canary, listening_canary
from tests.faults.hostile import Case, Outcome, Sender, foreign_files, make_corpus
from tests.faults.service_process import ServiceProcess
from tests.faults.small_corpus import SmallCorpus

AT_ONCE = 3


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    """An ffmpeg command, which only writes files here."""
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        pytest.skip(f"needs an ffmpeg command to write the corpus: {error}")


@pytest.fixture(scope="module")
def maker(repo_root: Path) -> Path:
    """The script that writes the whole corpus."""
    path = repo_root.parent / "shared" / "eval" / "hostile" / "make_hostile.py"
    if not path.is_file():
        pytest.skip(f"needs the corpus that does not ship with the repository (looked for {path.name} in ../shared)")
    return path


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listening_canary() as canary:
        yield canary


def send_all(sender: Sender, cases: Sequence[Case]) -> list[Outcome]:
    """Sends all cases, a few at a time, and prints how many were right."""
    start = time.monotonic()
    sender.prepare()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = [outcome for found in pool.map(sender.send, cases) for outcome in found]
    count = Counter((outcome.case.role, outcome.case.expect, not outcome.wrong) for outcome in outcomes)
    for role, expect in sorted({key[:2] for key in count}):
        right, wrong = count[role, expect, True], count[role, expect, False]
        print(f"{role:8} {expect:6} {right:3} of {right + wrong}")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print(f"{len(cases)} cases in {time.monotonic() - start:.0f} s; slowest {slowest.case.id} {slowest.seconds:.1f} s")
    return outcomes


def check(outcomes: Sequence[Outcome], canary: Canary, data_dir: Path) -> None:
    """Every case is in its class, nobody was called, nothing was written where it does not belong."""
    wrong = [
        f"{outcome.case.role} {outcome.case.id}: {outcome.wrong}; {outcome.found} ({outcome.seconds:.1f} s) "
        f"{outcome.detail}"
        for outcome in outcomes
        if outcome.wrong
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(outcomes)} are wrong:", *wrong])
    assert not canary.heard, "somebody called the canary"
    assert not foreign_files(data_dir)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_inputs_made_on_the_spot(
    client: httpx.Client, canary: Canary, data_dir: Path, samples: Path, sample_video: Path, tmp_path: Path
) -> None:
    short = samples / "speech_short.wav"
    voice = read_wav(short)[0][:16000].astype(np.float32) / np.float32(32768)
    cases = SmallCorpus(tmp_path, sample_video, voice, canary.port).make()
    check(send_all(Sender(client, short, sample_video, tmp_path), cases), canary, data_dir)
    assert not Path("/tmp/hostile_name.mp4").exists()
    assert not Path("/tmp/hostile_name").exists()


@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_the_whole_corpus(
    maker: Path, ffmpeg: str, client: httpx.Client, canary: Canary, data_dir: Path, tmp_path: Path
) -> None:
    cases = make_corpus(maker, ffmpeg, tmp_path, canary.port)
    assert len(cases) == 189
    corpus = tmp_path / "corpus"
    speech = tmp_path / "speech.wav"
    said, rate = read_wav(corpus / "good_audio.wav")
    write_wav(speech, said[:rate], rate)
    check(send_all(Sender(client, speech, corpus / "good_face.mp4", tmp_path), cases), canary, data_dir)
    assert not list(Path("/tmp").glob("eval_pwned*"))
