from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest

from config import LabelsConfig, PipelineConfig
from jobs.messages import OutputInfo, SourceVideo
from media.audio_parts import AudioPart
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from rendering.result_writer import ResultWriter
from storage.file_keys import job_file_key, result_key, segment_key, sound_key, source_key
from storage.state import open_files
from tests.unit.media.clips import info_of, noise, write_audio, write_video

NUM_FRAMES, RATE, FPS = 500, 16_000, 25
FIRST, REVISION = "1" * 32, "2" * 32
_MARK = b"U"


def _write(data_dir: Path, job_id: str, samples: np.ndarray, earlier: str | None) -> list[bytes]:
    """Write the result of a job; return the packets of its sound."""
    config = PipelineConfig(data_dir=data_dir, labels=LabelsConfig(c2pa=False))
    files, source = open_files(config), SourceVideo(source_key("0" * 32), info_of(192, 128))
    speech, out = data_dir / job_file_key(job_id, "audio"), data_dir / result_key(job_id)
    (data_dir / segment_key(job_id, 0)).parent.mkdir(parents=True)
    write_audio(speech, samples, RATE, "pcm_s16le", sample_format="s16", container_format="wav")
    write_video(data_dir / segment_key(job_id, 0), NUM_FRAMES)
    output = OutputInfo(NUM_FRAMES, job_id, pieces=sound_key(job_id), earlier_pieces=earlier)
    part = AudioPart(job_file_key(job_id, "audio"))
    with Decoders(config.decoder) as decoders:
        writer = ResultWriter(config, files, decoders)
        writer.write([segment_key(job_id, 0)], [part], result_key(job_id), source, output, CancelToken())
    assert (data_dir / sound_key(job_id)).stat().st_size > 10_000
    assert [path.name for path in out.parent.iterdir() if path.is_file()].count("result.mp4") == 1
    with av.open(str(out)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def _mark(pieces: Path) -> None:
    """Change the last byte of each piece."""
    with ZipFile(pieces) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    with ZipFile(pieces, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content[:-1] + _MARK)


@pytest.mark.parametrize("is_kept", [True, False])
def test_write_of_a_revision_keeps_earlier_sound(tmp_path: Path, is_kept: bool) -> None:
    samples = noise(NUM_FRAMES / FPS, RATE)[None] * np.float32(0.3)
    first = _write(tmp_path, FIRST, samples, None)
    _mark(tmp_path / sound_key(FIRST))
    if not is_kept:
        (tmp_path / sound_key(FIRST)).unlink()
    changed = samples.copy()
    changed[:, :RATE] *= 0.5
    revised = _write(tmp_path, REVISION, changed, sound_key(FIRST))
    assert len(first) == len(revised) and first[:20] != revised[:20]
    assert revised[255] == (first[255][:-1] + _MARK if is_kept else first[255]), "the last packet of the second piece"
