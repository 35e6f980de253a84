"""The pace of a stream on a simulated clock: clients whose clocks are not ours, and streams that nobody watches."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from api.live.session_clock import StreamPacer

MOMENT_S = 0.08
MAX_AHEAD_S = 3.0
REPORT_S = 0.25
KEEP_S = 0.19  # buffered before it plays, and kept by a player that steers: web/js/live_session.js
SLOWEST, FASTEST, SETTLE_S = 0.95, 1.06, 0.2
TICK_S = 0.02


@dataclass
class Watched:
    """What an hour of one stream was.

    Attributes:
        seconds: Of the stream, made.
        most_ahead_s: Most that had come and was not shown.
        starved_s: Time in which the client had nothing to show.
        longest_s: Longest such time at a stretch.
        stalled_s: Longest time in which the service saw nothing shown.
    """

    seconds: float = 0.0
    most_ahead_s: float = 0.0
    starved_s: float = 0.0
    longest_s: float = 0.0
    stalled_s: float = 0.0


def watch(rate: float, is_steered: bool = False, wall_s: float = 3600.0) -> Watched:
    """A client whose clock makes `rate` seconds in one of ours; run dry, it waits for 190 ms of stream.

    Steered as on the page, it plays slower or faster to keep what it began with; other players do not.
    """
    clock = [0.0]
    pace, seen = StreamPacer(MAX_AHEAD_S, lambda: clock[0]), Watched()
    sent = shown = reported = starved = 0.0
    is_playing = False
    while clock[0] < wall_s:
        while pace.wait_s(sent) == 0:
            sent += MOMENT_S
        clock[0] += TICK_S
        if is_playing:
            steer = min(FASTEST, max(SLOWEST, 1 + (sent - shown - KEEP_S) / SETTLE_S)) if is_steered else 1.0
            starved, shown = 0.0, shown + rate * steer * TICK_S
            is_playing = shown < sent
            shown = min(shown, sent)
        else:
            starved += TICK_S
            seen.starved_s += TICK_S
            is_playing = sent - shown >= KEEP_S
        if clock[0] - reported >= REPORT_S:
            reported = clock[0]
            seen.stalled_s = max(seen.stalled_s, pace.stalled_s())
            pace.report_playback(shown)
        seen.most_ahead_s = max(seen.most_ahead_s, sent - shown)
        seen.longest_s = max(seen.longest_s, starved)
    seen.seconds = sent
    return seen


@pytest.mark.parametrize("rate", [0.999, 1.0, 1.001])
def test_page_player_neither_stalls_nor_falls_behind(rate: float) -> None:
    seen = watch(rate, is_steered=True)
    assert seen.starved_s < 2 * KEEP_S, "it waits once, for its first pictures"
    assert seen.most_ahead_s < KEEP_S + 2 * MOMENT_S
    assert seen.seconds == pytest.approx(3600, abs=0.2)


def test_slow_client_clock_is_never_far_behind() -> None:
    seen = watch(0.999)
    assert seen.starved_s < 2 * KEEP_S, "it waits once, for its first pictures"
    assert MAX_AHEAD_S - MOMENT_S < seen.most_ahead_s < MAX_AHEAD_S + 2 * MOMENT_S, "it would be 3.6 s behind"
    assert seen.seconds == pytest.approx(0.999 * 3600 + MAX_AHEAD_S, abs=0.5), "no faster than it shows it"
    assert seen.stalled_s < 0.5


def test_fast_client_clock_waits_only_for_what_it_is_ahead() -> None:
    seen = watch(1.001)
    assert seen.starved_s < 0.001 * 3600 + 2 * KEEP_S
    assert seen.longest_s < 2 * KEEP_S
    assert seen.most_ahead_s < KEEP_S + 2 * MOMENT_S, "nothing piles up"
    assert seen.seconds == pytest.approx(3600, abs=0.2), "the stream runs with our clock"
    assert seen.stalled_s < 1


def test_equal_client_clock_keeps_a_constant_buffer() -> None:
    seen = watch(1.0)
    assert seen.starved_s < 2 * KEEP_S
    assert seen.most_ahead_s < KEEP_S + 2 * MOMENT_S


def test_unwatched_stream_may_run_ahead_of_wall_time() -> None:
    clock = [0.0]
    pace = StreamPacer(MAX_AHEAD_S, lambda: clock[0], speed=10.0)
    assert pace.wait_s(1.0) == pytest.approx(0.1)
    clock[0] = 0.1
    assert pace.wait_s(1.0) == 0
    assert pace.wait_s(3.5) is None, "and waits for its client as ever"
    pace.report_playback(1.0)
    pace.hurry(2.0)
    assert pace.wait_s(2.0) == 0
    assert pace.wait_s(3.0) == pytest.approx(0.1)
