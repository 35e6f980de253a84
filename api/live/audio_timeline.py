"""The sound of a live session in time: what was said, when it is audio, and what the mouth knows of it."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import CapacityError
from media.live.audio import Downsampler, InputResampler
from media.live.mp4_boxes import AUDIO_RATE
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream, SpeechWindow

_RATIO: Final = 3  # of the sound that is heard to what the network hears
_FADE_SAMPLES: Final = AUDIO_RATE // 100  # of a voice that is cut off


class ChunkAudio(NamedTuple):
    """What belongs to a moment.

    Attributes:
        window: What is known of the speech around its frames.
        sound: (N,) int16 at 48 kHz.
        has_begun: Whether somebody begins to speak in it.
        has_ended: Whether all that was said is spoken with it.
    """

    window: SpeechWindow
    sound: NDArray[np.int16]
    has_begun: bool
    has_ended: bool


class AudioTimeline:
    """Puts what comes in, at any pace, on the time of the stream.

    Speech is spoken without a gap from the first moment on at which enough of it is there; where it does not come fast
    enough, there is a pause.

    Args:
        fps: Of the pictures.
        sample_rate: Of the sound that comes in.
        lead_seconds: Sound that has to be there before anybody begins to speak, unless all of it is.
        max_buffered_seconds: Bound of what waits.
    """

    def __init__(self, fps: Fraction, sample_rate: int, lead_seconds: float, max_buffered_seconds: float) -> None:
        self._fps, self._rate = fps, sample_rate
        self._intake_rate = sample_rate
        self._lead = round(lead_seconds * AUDIO_RATE)
        self._max_waiting = round(max_buffered_seconds * AUDIO_RATE)
        self._intake = InputResampler(sample_rate)
        self._stream, self._thinned = SpeechStream(), Downsampler()
        self._waiting: deque[NDArray[np.int16]] = deque()
        self._num_waiting = 0
        self._is_whole = True  # nothing more of what is being said will come
        self._is_speaking = False
        self._placed = np.zeros(0, np.int16)  # has its time, and has not left yet
        self._left = 0  # samples that have left
        self._is_held = self._was_speaking = False

    @property
    def is_speaking(self) -> bool:
        """Whether there is anything to be spoken, or on its way."""
        return self._is_speaking or self._num_waiting > 0

    def begins_within(self, seconds: float) -> bool:
        """Whether it takes no longer than this until enough is there to begin, if it comes as it is spoken."""
        if self._is_held or self._is_speaking or not self._num_waiting or self._can_begin():
            return False
        return self._lead - self._num_waiting <= seconds * AUDIO_RATE

    @property
    def waiting_seconds(self) -> float:
        """How much waits to be spoken."""
        return (self._num_waiting + len(self._placed)) / AUDIO_RATE

    @property
    def left_seconds(self) -> float:
        """Time of the stream up to which sound has left, or is on its way."""
        return self._left / AUDIO_RATE

    def has_room(self, seconds: float) -> bool:
        """Whether so much more may wait."""
        return seconds * AUDIO_RATE + self._num_waiting <= self._max_waiting

    def push(self, samples: NDArray[np.int16], sample_rate: int | None = None) -> None:
        """Take (N,) samples, at the rate of the line unless another one is given.

        Raises:
            CapacityError: More waits than is allowed.
        """
        rate = sample_rate or self._rate
        if not self.has_room(len(samples) / rate):
            raise CapacityError(
                f"Expected at most {self._max_waiting / AUDIO_RATE:g} s of sound ahead, found more.", 1.0
            )
        self._is_whole = False
        if rate != self._intake_rate:
            self._add(self._intake.end())
            self._new_intake(rate)
        self._add(self._intake.push(samples))

    def end(self) -> None:
        """All that was to be said is there."""
        if not self._is_whole:
            self._add(self._intake.end())
            self._add(np.zeros(-self._num_waiting % _RATIO, np.int16))
            self._new_intake(self._rate)
            self._is_whole = True

    def interrupt(self) -> bool:
        """Forget what has not left yet; the voice fades and the mouth shuts. Return whether anything was spoken."""
        was_speaking = self.is_speaking
        self._waiting.clear()
        self._num_waiting, self._is_whole, self._is_speaking, self._was_speaking = 0, True, False, False
        self._new_intake(self._rate)
        fading = self._placed[:_FADE_SAMPLES]
        self._placed = (fading * np.linspace(1, 0, len(fading))).astype(np.int16)
        self._stream.forget_after(self._left // _RATIO)
        self._thinned = Downsampler()
        self._stream.push(self._thinned.push(self._placed))
        if was_speaking:
            # A frame earlier than what can still be changed: the first that is left shows a mouth that is shutting.
            self._stream.shut(max(0.0, self._left / AUDIO_RATE - float(1 / self._fps)))
        return was_speaking

    def hold(self, audio: ChunkAudio) -> ChunkAudio:
        """Take back what belongs to a moment that nobody will see, and have nothing spoken until `go_on`.

        Args:
            audio: The last moment.

        Returns:
            What leaves in its place: the voice fades.
        """
        self._is_held = True
        back = np.concatenate([audio.sound, self._placed])
        if not back.any():
            return audio
        self._waiting.appendleft(back)
        self._num_waiting += len(back)
        self._was_speaking, self._is_speaking = True, False
        self._left -= len(audio.sound)
        self._stream.forget_after(self._left // _RATIO)
        self._stream.shut(self._left / AUDIO_RATE)
        self._placed, self._thinned = np.zeros(0, np.int16), Downsampler()
        leaves = np.zeros_like(audio.sound)
        leaves[:_FADE_SAMPLES] = back[:_FADE_SAMPLES] * np.linspace(1, 0, _FADE_SAMPLES)
        self._stream.push(self._thinned.push(leaves))
        self._left += len(leaves)
        return audio._replace(sound=leaves, has_ended=False)

    def go_on(self) -> None:
        """Say on what was held."""
        self._is_held = False
        if self._was_speaking and self._num_waiting:
            self._is_speaking = True
            self._stream.begin()
        self._was_speaking = False

    def chunk(self, first_frame: int, num_frames: int, stop_sample: int) -> ChunkAudio:
        """Return what belongs to frames [first_frame, first_frame + num_frames): moments are asked for in order.

        Args:
            first_frame: First of them.
            num_frames: How many.
            stop_sample: Sample at 48 kHz up to which sound leaves with them; a multiple of 3.
        """
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
        """Give what waits its time, up to a sample of the stream."""
        wanted = min(until - self._left - len(self._placed), self._num_waiting // _RATIO * _RATIO)
        pieces: list[NDArray[np.int16]] = []
        self._num_waiting -= max(0, wanted)
        while wanted > 0:
            piece = self._waiting.popleft()
            if len(piece) > wanted:
                self._waiting.appendleft(piece[wanted:])
            pieces.append(piece[:wanted])
            wanted -= len(pieces[-1])
        if pieces:
            self._append(np.concatenate(pieces))

    def _append(self, piece: NDArray[np.int16]) -> None:
        self._placed = np.concatenate([self._placed, piece])
        self._stream.push(self._thinned.push(piece))

    def _add(self, samples: NDArray[np.int16]) -> None:
        if len(samples):
            self._waiting.append(samples)
            self._num_waiting += len(samples)
