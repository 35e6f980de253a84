"""What is sent again after a broken connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lipwright_client.live_protocol import LiveEvent, encode_message
from lipwright_client.unspoken import Unspoken

RATE = 1000
SECOND = bytes(range(200)) * (2 * RATE // 200)


def again(unspoken: Unspoken, **connected: object) -> list[bytes | str]:
    """What is sent after a reconnection: audio as it is, and of other messages their text or type."""
    unspoken.pause()
    unspoken.resume(connected)
    sent: list[bytes | str] = []
    while (message := unspoken.next_unsent()) is not None:
        fields = {} if isinstance(message, bytes) else json.loads(message)
        sent.append(message if isinstance(message, bytes) else fields.get("text", fields["type"]))
    return sent


def fragment(spoken_seconds: float) -> LiveEvent:
    return LiveEvent("session.fragment", {"spoken_seconds": spoken_seconds})


def ended(event_id: str) -> LiveEvent:
    return LiveEvent("agent.speak_ended", {"event_id": event_id})


def speaking(*contents: bytes | str) -> Unspoken:
    unspoken = Unspoken(RATE)
    for content in contents:
        text = content if isinstance(content, bytes) else encode_message("agent.speak_text", text=content)
        unspoken.add(encode_message("agent.speak_end") if content == "" else text)
    return unspoken


@pytest.mark.parametrize(
    ("contents", "events", "connected", "sent"),
    [
        ([SECOND, SECOND, ""], [fragment(1.25)], {}, [SECOND[500:], "agent.speak_end"]),
        ([SECOND[:20]] * 150, [], {}, [SECOND[:20] * 100, SECOND[:20] * 50]),
        (["One.", "Two.", "Three."], [fragment(0.5), ended("client-2")], {}, ["Three."]),
        (["One.", "Two."], [LiveEvent("error", {"code": "voice_failed", "event_id": "client-1"})], {}, ["Two."]),
        ([SECOND, "", SECOND[::2], ""], [], {"num_messages": 3}, ["agent.speak_end"]),
    ],
    ids=["rest of audio", "small pieces merged", "texts without end", "failed text", "same session"],
)
def test_resume_sends_unspoken_messages(
    contents: list[bytes | str], events: list[LiveEvent], connected: dict[str, Any], sent: list[bytes | str]
) -> None:
    unspoken = speaking(*contents)
    for event in events:
        unspoken.handle(event)
    assert again(unspoken, **connected) == sent


def test_resume_new_session_after_restart_counts_from_zero() -> None:
    unspoken = speaking(SECOND, SECOND, "")
    unspoken.handle(fragment(1.25))
    again(unspoken)
    unspoken.handle(fragment(0.25))
    assert again(unspoken) == [SECOND[1000:], "agent.speak_end"]


def test_resume_without_rest_reports_end_of_speech() -> None:
    unspoken = speaking(SECOND, "")
    unspoken.handle(fragment(1.0))
    unspoken.pause()
    assert unspoken.resume({}) == "client-1"
    assert unspoken.next_unsent() is None


def test_resume_same_session_reports_end_meanwhile() -> None:
    unspoken = speaking("One.", "Two.")
    unspoken.pause()
    assert unspoken.resume({"num_messages": 2, "ended_event_id": "client-1"}) == "client-1"
    assert unspoken.next_unsent() is None
    assert again(unspoken) == ["Two."]


def test_interrupt_forgets_earlier_speech() -> None:
    unspoken = speaking(SECOND, "One.")
    unspoken.add(encode_message("agent.interrupt"))
    unspoken.add(SECOND)
    assert again(unspoken) == ["agent.interrupt", SECOND]


def test_interrupt_ends_the_count_of_spoken_audio() -> None:
    for earlier in ([SECOND], []):
        unspoken = speaking(*earlier)
        unspoken.add(encode_message("agent.interrupt"))
        unspoken.add(SECOND)
        unspoken.handle(fragment(0.25))
        if earlier:
            unspoken.handle(LiveEvent("agent.speak_interrupted", {"event_id": "client-1", "spoken_seconds": 0.5}))
            unspoken.handle(fragment(0.75))
        assert again(unspoken) == [SECOND[500:]]


def test_refused_updates_and_outputs_are_not_sent_again() -> None:
    unspoken = Unspoken(RATE)
    for number in range(12):
        unspoken.add(encode_message("avatar.update", expression=str(number), **({"motion": 0.5} if not number else {})))
    unspoken.add(encode_message("output.start", url="rtmp://a"))
    for failed in ("client-12", "client-13"):
        unspoken.handle(LiveEvent("error", {"code": "option_invalid", "event_id": failed}))
    assert not unspoken.has_outputs
    unspoken.pause()
    unspoken.add(encode_message("avatar.update", expression="late"))
    assert again(unspoken, num_messages=13) == ["avatar.update"], "only what was not sent"
    unspoken.pause()
    unspoken.resume({})
    sent = []
    while (message := unspoken.next_unsent()) is not None:
        sent.append(json.loads(message))
    assert (sent[0]["motion"], [message["expression"] for message in sent[-2:]]) == (0.5, ["10", "late"])
    assert len(sent) <= 9


def test_audio_while_paused_beyond_max_seconds_is_dropped() -> None:
    unspoken = speaking(SECOND)
    unspoken.max_seconds = 1.5
    unspoken.pause()
    assert unspoken.add(SECOND) is None
    assert b"".join(piece for piece in again(unspoken) if isinstance(piece, bytes)) == SECOND[1000:] + SECOND
    assert unspoken.dropped_seconds == 0.5
