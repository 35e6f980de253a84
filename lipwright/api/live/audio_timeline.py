"""Timeline of a live session's audio: when received speech is played, and what the mouth model sees of it."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CapacityError
from lipwright.media.live.audio import Downsampler, InputResampler
from lipwright.media.live.mp4_boxes import AUDIO_RATE
from lipwright.media.phones import Closures
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream, SpeechWindow

_RATIO: Final = 3  # 48 kHz of the output to 16 kHz of the speech model
_FADE_SAMPLES: Final = AUDIO_RATE // 100  # fade-out of interrupted speech


class ChunkAudio(NamedTuple):
    """The audio of one chunk.

    Attributes:
        window: The speech around its frames, for the mouth model.
        sound: (N,) int16 samples at 48 kHz.
        has_begun: Whether speech starts in this chunk.
        has_ended: Whether all received speech is spoken with this chunk.
    """

    window: SpeechWindow
    sound: NDArray[np.int16]
    has_begun: bool
    has_ended: bool


class AudioTimeline:
    """Places received speech, which arrives at any rate, on the time axis of the stream.

    Speech starts once enough of it is buffered and then plays without gaps; a buffer underrun results in a pause.

    Args:
        fps: Frame rate of the video.
        sample_rate: Sample rate of the received audio, in Hz.
        min_buffer_seconds: Audio that must be buffered before speech starts, unless it is complete.
        max_buffered_seconds: Maximum length of buffered audio.
    """

    def __init__(self, fps: Fraction, sample_rate: int, min_buffer_seconds: float, max_buffered_seconds: float) -> None:
        self._fps, self._rate = fps, sample_rate
        self._intake_rate = sample_rate
        self._lead = round(min_buffer_seconds * AUDIO_RATE)
        self._max_waiting = round(max_buffered_seconds * AUDIO_RATE)
        self._intake = InputResampler(sample_rate)
        self._stream, self._thinned = SpeechStream(), Downsampler()
        self._waiting: deque[NDArray[np.int16]] = deque()
        self._num_waiting = self._num_received = 0
        self._closures: list[tuple[int, int]] = []  # from one received sample to another; not sent yet
        self._is_whole = True  # the current utterance is complete
        self._is_speaking = False
        self._placed = np.zeros(0, np.int16)  # scheduled, not sent yet
        self._left = 0  # samples sent
        self._is_held = self._was_speaking = False

    @property
    def is_speaking(self) -> bool:
        """Whether speech is playing or buffered."""
        return self._is_speaking or self._num_waiting > 0

    @property
    def plays_on(self) -> bool:
        """Whether speech is playing or buffered, except the rest of an incomplete utterance, which waits for more."""
        return self.is_speaking and (self._is_whole or self._num_waiting + len(self._placed) >= self._lead)

    def begins_within(self, seconds: float) -> bool:
        """Return whether speech can start within `seconds`, if it arrives in real time."""
        if self._is_held or self._is_speaking or not self._num_waiting or self._can_begin():
            return False
        return self._lead - self._num_waiting <= seconds * AUDIO_RATE

    def covers(self, seconds: float) -> bool:
        """Return whether speech is playing, and what the next `seconds` of it depend on has arrived."""
        return self._is_speaking and self.waiting_seconds >= seconds + LOOK_AHEAD_SECONDS

    @property
    def waiting_seconds(self) -> float:
        """Length of buffered speech."""
        return (self._num_waiting + len(self._placed)) / AUDIO_RATE

    @property
    def spoken_seconds(self) -> float:
        """Length of all speech that was sent so far."""
        return self._num_received / AUDIO_RATE - self.waiting_seconds

    @property
    def num_received(self) -> int:
        """Samples at 48 kHz that were received and not dropped."""
        return self._num_received

    def time_of(self, sample: int) -> float | None:
        """Return the stream time at which a received sample is heard; None if that is not known before it begins."""
        if self._num_waiting and not self._is_speaking:
            return None
        num_spoken = self._num_received - self._num_waiting - len(self._placed)
        return (self._left + sample - num_spoken) / AUDIO_RATE

    @property
    def left_seconds(self) -> float:
        """Stream time up to which audio was sent."""
        return self._left / AUDIO_RATE

    def has_room(self, seconds: float) -> bool:
        """Return whether `seconds` more audio fits into the buffer."""
        return seconds * AUDIO_RATE + self._num_waiting <= self._max_waiting

    def push(self, samples: NDArray[np.int16], sample_rate: int | None = None, closures: Closures = ()) -> None:
        """Add (N,) int16 samples, at the rate of the session unless `sample_rate` is given.

        `closures` are when lips close in them, in seconds from the first sample.

        Raises:
            CapacityError: The buffer is full.
        """
        rate = sample_rate or self._rate
        if not self.has_room(len(samples) / rate):
            raise CapacityError(
                f"The audio buffer is full ({self._max_waiting / AUDIO_RATE:g} s). Send audio in real time.", 1.0
            )
        self._is_whole = False
        if rate != self._intake_rate:
            self._add(self._intake.end())
            self._new_intake(rate)
        at = [self._num_received + round(seconds * AUDIO_RATE) for times in closures for seconds in times]
        self._closures += zip(at[::2], at[1::2], strict=True)
        self._add(self._intake.push(samples))

    def end(self) -> None:
        """Mark the end of the utterance."""
        if not self._is_whole:
            self._add(self._intake.end())
            self._add(np.zeros(-self._num_waiting % _RATIO, np.int16))
            self._new_intake(self._rate)
            self._is_whole = True

    def interrupt(self) -> bool:
        """Drop everything not sent yet; the voice fades and the mouth closes. Return whether there was speech."""
        was_speaking = self.is_speaking
        self._num_received -= self._num_waiting + len(self._placed[_FADE_SAMPLES:])
        self._waiting.clear()
        self._closures.clear()
        self._num_waiting, self._is_whole, self._is_speaking, self._was_speaking = 0, True, False, False
        self._new_intake(self._rate)
        fading = self._placed[:_FADE_SAMPLES]
        self._placed = (fading * np.linspace(1, 0, len(fading))).astype(np.int16)
        self._stream.forget_after(self._left // _RATIO)
        self._thinned = Downsampler()
        self._stream.push(self._thinned.push(self._placed))
        if was_speaking:
            # One frame early, so that the first frame that can still change shows a closing mouth.
            self._stream.shut(max(0.0, self._left / AUDIO_RATE - float(1 / self._fps)))
        return was_speaking

    def rollback_chunk(self, audio: ChunkAudio) -> ChunkAudio:
        """Take back the last chunk, which will not be shown, and pause speech until `resume`.

        Args:
            audio: The last chunk.

        Returns:
            The chunk to send instead: the voice fades out.
        """
        self._is_held = True
        back = np.concatenate([audio.sound, self._placed])
        if not (self._is_speaking or back.any()):
            return audio
        self._waiting.appendleft(back)
        self._num_waiting += len(back)
        self._was_speaking, self._is_speaking = True, False
        self._left -= len(audio.sound)
        self._stream.forget_after(self._left // _RATIO)
        self._stream.shut(self._left / AUDIO_RATE)
        self._placed, self._thinned = np.zeros(0, np.int16), Downsampler()
        leaves = np.zeros_like(audio.sound)
        num_fading = min(_FADE_SAMPLES, len(leaves))
        leaves[:num_fading] = back[:num_fading] * np.linspace(1, 0, num_fading)
        self._stream.push(self._thinned.push(leaves))
        self._left += len(leaves)
        return audio._replace(sound=leaves, has_ended=False)

    def resume(self) -> bool:
        """Resume paused speech. Return whether it continues with the chunk that `rollback_chunk` took back."""
        is_resumed = self._was_speaking and self._num_waiting > 0
        if is_resumed:
            self._is_speaking = True
            self._stream.begin()
        self._is_held = self._was_speaking = False
        return is_resumed

    def chunk(self, first_frame: int, num_frames: int, stop_sample: int) -> ChunkAudio:
        """Return the audio of frames [first_frame, first_frame + num_frames). Call in order.

        Args:
            first_frame: First frame of the chunk.
            num_frames: Number of frames.
            stop_sample: Sample at 48 kHz up to which audio is sent with them; a multiple of 3. None is sent if that was
                sent already: idle frames replaced a longer chunk.
        """
        stop_sample = max(stop_sample, self._left)
        stop = float((first_frame + num_frames) / self._fps)
        has_begun = not self._is_held and not self._is_speaking and self._can_begin()
        if has_begun:
            self._is_speaking = True
            self._stream.begin()
        if self._is_speaking:
            self._place(math.ceil((stop + LOOK_AHEAD_SECONDS) * AUDIO_RATE / _RATIO) * _RATIO)
        is_short = stop_sample > self._left + len(self._placed)
        if is_short:
            self._append(np.zeros(stop_sample - self._left - len(self._placed), np.int16))
        has_ended = self._is_speaking and self._is_whole and not self._num_waiting and is_short
        self._is_speaking = self._is_speaking and not has_ended
        sound, self._placed = np.split(self._placed, [stop_sample - self._left])
        self._left = stop_sample
        window = self._stream.window(float(first_frame / self._fps), stop)
        return ChunkAudio(window, sound, has_begun, has_ended)

    def _new_intake(self, rate: int) -> None:
        self._intake, self._intake_rate = InputResampler(rate), rate

    def _can_begin(self) -> bool:
        return self._num_waiting > 0 and (self._is_whole or self._num_waiting >= self._lead)

    def _place(self, until: int) -> None:
        """Schedule buffered audio up to a sample of the stream."""
        wanted = min(until - self._left - len(self._placed), self._num_waiting // _RATIO * _RATIO)
        pieces: list[NDArray[np.int16]] = []
        self._place_closures(wanted)
        self._num_waiting -= max(0, wanted)
        while wanted > 0:
            piece = self._waiting.popleft()
            if len(piece) > wanted:
                self._waiting.appendleft(piece[wanted:])
            pieces.append(piece[:wanted])
            wanted -= len(pieces[-1])
        if pieces:
            self._append(np.concatenate(pieces))

    def _place_closures(self, num: int) -> None:
        """Add the closures that begin in the next `num` samples to the stream."""
        first = self._num_received - self._num_waiting
        offset = self._left + len(self._placed) - first  # of a sample of the stream from the received one
        first_unsent = first - len(self._placed)
        self._closures = [closure for closure in self._closures if closure[0] >= first_unsent]
        now = (closure for closure in self._closures if first <= closure[0] < first + num)
        placed = tuple(((start + offset) / AUDIO_RATE, (end + offset) / AUDIO_RATE) for start, end in now)
        self._stream.add_closures(placed)

    def _append(self, piece: NDArray[np.int16]) -> None:
        self._placed = np.concatenate([self._placed, piece])
        self._stream.push(self._thinned.push(piece))

    def _add(self, samples: NDArray[np.int16]) -> None:
        if len(samples):
            self._waiting.append(samples)
            self._num_waiting += len(samples)
            self._num_received += len(samples)
