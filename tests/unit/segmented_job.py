"""A job as the Director leaves it behind, segment by segment: what previews and the page are tested with."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import httpx

from lipwright.jobs.model.record import JobStage, JobStatus
from lipwright.media.audio import extract_speech
from lipwright.media.audio_parts import AudioPart
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from lipwright.storage.file_keys import result_key, segment_key, speech_key
from lipwright.storage.row_codec import SegmentRecord, SegmentStatus
from tests.unit.api_server import MemoryService
from tests.unit.media.clips import LIMITS, info_of, noise, planes_of, write_audio
from tests.unit.on_disk import on_disk

LENGTHS = (25, 1, 40, 14)
NUM_FRAMES = sum(LENGTHS)


class SegmentedJob:
    """Segments of one job, its speech, and the file joined from them."""

    def __init__(self, folder: Path, fps: Fraction) -> None:
        self.segments, self.speech, self.result = [], folder / "speech.npy", folder / "result.mp4"
        number = 0
        for index, length in enumerate(LENGTHS):
            writer = SegmentWriter(info_of(192, 128, fps), 20, "veryfast")
            for _ in range(length):
                writer.write(planes_of(number, 192, 128))
                number += 1
            self.segments.append(folder / f"segment{index}.mp4")
            self.segments[-1].write_bytes(writer.finish())
        sound = write_audio(
            folder / "a.wav", noise(float(NUM_FRAMES / fps), 16000)[None], 16000, "pcm_s16le", sample_format="s16"
        )
        extract_speech(sound, self.speech, LIMITS)
        concat_segments(self.segments, ResultSound([AudioPart(sound)]), self.result, info_of(192, 128, fps), NUM_FRAMES)


EDGES = [sum(LENGTHS[:number]) for number in range(len(LENGTHS) + 1)]


class RenderingJob:
    """A job of a `MemoryService` whose segments come when the test says so."""

    def __init__(self, service: MemoryService, http: httpx.Client, job: SegmentedJob) -> None:
        self.service, self.job = service, job
        files = {"audio": ("a talk.wav", b"RIFF" + bytes(64)), "video": ("anna.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}
        self.id = str(http.post("/v1/jobs", files=files).json()["id"])
        shutil.copy(job.speech, on_disk(self.service.files, speech_key(self.id)))
        self.update(status=JobStatus.RUNNING, stage=JobStage.RENDERING, num_frames=NUM_FRAMES)

    def update(self, **fields: object) -> None:
        self.service.table.update_job(self.id, **fields)

    def finish_segment(self, number: int) -> None:
        shutil.copy(self.job.segments[number], on_disk(self.service.files, segment_key(self.id, number)))
        start, stop = EDGES[number : number + 2]
        self.service.table.record_segment(
            SegmentRecord(job_id=self.id, number=number, start=start, stop=stop, status=SegmentStatus.DONE)
        )
        self.update(num_frames_done=stop)

    def finish(self) -> None:
        shutil.copy(self.job.result, on_disk(self.service.files, result_key(self.id)))
        self.service.files.delete_segments(self.id)
        self.update(status=JobStatus.SUCCEEDED, stage=JobStage.DONE, progress=1.0)
