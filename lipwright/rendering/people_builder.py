"""Finds the people in a source: scans its faces, predicts the mouth of its sound, and stores who is seen and speaks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from lipwright.jobs.messages import PreparedSpeech, SourceVideo
from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.cancel_token import CancelToken
from lipwright.media.preview import face_thumbnail
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage.file_keys import PEOPLE_IDENTITIES, PEOPLE_PART, PEOPLE_REPORT, person_picture
from lipwright.storage.files import StoredFiles, load_together
from models.avatar.folder import write_whole
from models.engines.protocol import FrameSpan
from models.people.people import find_people
from models.people.scan import FaceRows, PeopleScanner, ScanState
from models.people.speakers import SourceMouth
from models.speech.features import FeatureBlock
from models.speech.level import open_measured_speech
from models.speech.speech_to_mouth import SpeechToMouth
from models.speech.voice_detector import VoiceDetector
from models.track.square_pixels import pixel_aspect


class PeopleBuilder:
    """Holds the networks that find faces. All its methods block; files are written atomically."""

    def __init__(self, files: StoredFiles, scanner: PeopleScanner, readers: SourceReaders, num_threads: int) -> None:
        self._files, self._scanner, self._readers, self._num_threads = files, scanner, readers, num_threads

    @cached_property
    def _speech_to_mouth(self) -> SpeechToMouth:
        return SpeechToMouth(num_threads=self._num_threads)

    def scan(
        self, source: SourceVideo, frames: range, state: ScanState | None, out: str, token: CancelToken
    ) -> ScanState:
        """Write the faces of consecutive source frames to the key `out`; see `LandmarkGenerator.scan_people`."""
        info = source.info
        with self._readers.frames(source, frames, token) as images:
            rows, new_state = self._scanner.scan_chunk(
                images, info.colour, frames.start, float(info.fps), state, pixel_aspect(info)
            )
        with self._files.written(out) as part:
            save_arrays(part, rows)
        return new_state

    def predict_mouth(self, features: FeatureBlock, speech: PreparedSpeech, span: FrameSpan, out: str) -> None:
        """Write the mouth that a source's own sound predicts to the key `out`; rows are 20 ms apart."""
        with self._files.fetched(speech.key) as path:
            samples = open_measured_speech(path, speech.level)
            is_heard = VoiceDetector().detect(samples, speech.level, span.first, span.num)
        mouth = SourceMouth.predict(self._speech_to_mouth, features, is_heard, span.first)
        with self._files.written(out) as part:
            save_arrays(part, mouth)

    def find(
        self, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str], token: CancelToken
    ) -> None:
        """Decide who the people are and who speaks, and store that; see `LandmarkGenerator.find_people`."""
        info = source.info
        rows = FaceRows.concatenate([FaceRows(**each) for each in load_together(self._files, scans, load_arrays)])
        sound = None
        if mouths:
            parts = load_together(self._files, mouths, load_arrays)
            sound = SourceMouth.concatenate([SourceMouth(**part) for part in parts])
        found = find_people(rows, info.fps, sound)
        with (
            self._files.fetched(source.key) as path,
            self._files.written_folder(folder, PEOPLE_PART, PEOPLE_REPORT) as made,
            self._readers.open(path, info, self._readers.timeout_s(len(found.pictures))) as reader,
            token.on_cancel(reader.close),
        ):
            part = made / PEOPLE_PART
            part.mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(found.pictures):
                (frame,) = reader.read([picture.frame])
                jpeg = face_thumbnail(frame, info.colour, picture.box, pixel_aspect(info))
                (part / person_picture(number)).write_bytes(jpeg)
            with (part / PEOPLE_IDENTITIES).open("wb") as file:
                np.savez(
                    file,
                    **{f"appearances-{number}": each for number, each in enumerate(found.appearances)},  # type: ignore[arg-type]
                    **{f"first_seen-{number}": each for number, each in enumerate(found.first_seen)},  # type: ignore[arg-type]
                )
            write_whole(part / PEOPLE_REPORT, found.report.model_dump(mode="json"))
