"""Several people in one video on the page: who is seen, who says what when, and what the service gets of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lipwright.config import TtsConfig
from lipwright.jobs.messages import PeopleScan
from lipwright_client import Lipwright
from models.people.report import PeopleReport, SeenPerson, TimeRange
from tests.browser import Visitor
from tests.unit.api_server import MemoryService
from tests.unit.quality_report import example_report
from tests.unit.speech.speech_server import tone

REPORT = PeopleReport(
    people=(
        SeenPerson(number=0, seen=(TimeRange(start=0, end=4),), face_pixels=120, frontal_share=1),
        SeenPerson(number=1, seen=(TimeRange(start=0.5, end=3.5),), face_pixels=80, frontal_share=0.5),
    )
)
WORDS = {  # by language: title of the second person, when they are seen, an overlap, what to do about it
    "en-US": ("Person 1", "Seen 0:01–0:04", "overlaps other speech", "marked in red"),
    "zh-CN": ("人物 1", "出现时间 0:01–0:04", "其他语音重叠", "标红"),
}
FOUND = "document.querySelectorAll('.people:not(.searching) .track').length === 2"
SHIFT = """(since) => new Promise((done) => {
    let sum = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput && entry.startTime > since) sum += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
    setTimeout(() => done(sum), 200);
})"""
STARTS = "[...document.querySelectorAll('.turn input[type=number]')].map((input) => input.valueAsNumber)"


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.scans = [PeopleScan(0.25, None), PeopleScan(1, REPORT)]
    return service


@pytest.fixture
def api_settings() -> dict[str, Any]:
    return {"tts": TtsConfig(url="http://127.0.0.1:9", voice="kim")}


def _sound(name: str, seconds: float) -> dict[str, Any]:
    return {"name": name, "mimeType": "audio/wav", "buffer": tone(seconds)}


OpenPage = Callable[..., Visitor]


@pytest.fixture
def open_page(browser: Any, url: str, sample_video: Path, sample_portrait: Path) -> OpenPage:
    """Opens the page, with a video of 4 s chosen and the two people in it found."""

    def open_page(**context: Any) -> Visitor:
        visitor = Visitor(browser, url, **context)
        visitor.until("document.querySelector('#engine').value")
        assert visitor.page.is_hidden("#several")
        visitor.page.set_input_files("#face input[type=file]", sample_video)
        visitor.page.route("**/thumbnail", lambda route: route.fulfill(path=sample_portrait))
        visitor.page.check("#several")
        visitor.until(FOUND)
        visitor.until("[...document.querySelectorAll('.person img')].every((picture) => picture.naturalWidth)")
        return visitor

    return open_page


def _add(visitor: Visitor, person: int, sound: dict[str, Any]) -> None:
    count = visitor.page.locator(".turn").count()
    visitor.page.set_input_files(f".person:nth-child({person + 1}) .add input[type=file]", sound)
    visitor.until(f"document.querySelectorAll('.turn').length === {count + 1}")
    visitor.until("[...document.querySelectorAll('.turn-bar')].every((bar) => bar.clientWidth > 11)")


def _drop(visitor: Visitor, person: int, name: str) -> None:
    """Drop one second of sound on a person's card."""
    dropped = visitor.page.evaluate_handle(
        """([name, sound]) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(sound)], name, { type: "audio/wav" }));
            return files;
        }""",
        [name, list(tone(1))],
    )
    visitor.page.dispatch_event(f".person:nth-child({person + 1}) h3", "drop", {"dataTransfer": dropped})


def test_people_get_speech_and_starts(open_page: OpenPage, service: MemoryService) -> None:
    visitor = open_page(viewport={"width": 1400, "height": 900})
    page = visitor.page
    assert not service.table.list_avatars(pinned_only=False)[0].pinned
    for locale, (title, seen, *_) in WORDS.items():
        assert visitor.text(".person:nth-child(2) h3") == title
        assert visitor.text(".person:nth-child(2) .hint >> nth=0") == seen
        visitor.picture(f"several-{locale}-people")
        page.click("#language")
    _add(visitor, 0, _sound("hello.wav", 1))
    _add(visitor, 0, _sound("bye.wav", 1.5))
    _add(visitor, 1, _sound("answer.wav", 0.5))
    assert page.evaluate(STARTS) == [0, 1, 2.5]
    assert page.evaluate("document.activeElement.closest('.turn') !== null"), "the start is what comes next"
    page.fill(".turn input >> nth=1", "0.8")
    assert page.locator(".turn-bar.bad").count() == 2
    for locale, (*_, overlap, advice) in WORDS.items():
        assert overlap in visitor.text(".turn .note >> nth=0")
        visitor.submit()
        assert advice in visitor.until("document.querySelector('#composer-error').textContent")
        visitor.picture(f"several-{locale}-overlap")
        page.click("#language")
    assert not service.requests
    page.locator(".turn-bar").nth(1).scroll_into_view_if_needed()
    bar = page.locator(".turn-bar").nth(1).bounding_box()
    track = page.locator(".track").nth(0).bounding_box()
    page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + 9)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"] / 2 + track["width"] / 4, bar["y"] + 9, steps=3)  # a quarter of 4 s
    page.mouse.up()
    assert page.evaluate(STARTS) == [0, 1.8, 2.5]
    page.focus(".turn-bar >> nth=0")
    for key in ("PageUp", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate(STARTS) == [0.7, 1.8, 2.5]
    assert page.locator(".turn-bar.bad").count() == 0
    assert page.is_hidden("#composer-error")
    assert visitor.serious_violations() == []
    page.set_viewport_size({"width": 360, "height": 740})
    for locale in WORDS:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        visitor.picture(f"several-{locale}-phone")
        page.click("#language")
    visitor.submit()
    visitor.until_status("queued")
    (request,) = service.requests
    turns = [(turn.face, turn.start, turn.audio) for turn in request.options.turns or ()]
    assert turns == [("person:0", 0.7, "audio"), ("person:0", 1.8, "audio_1"), ("person:1", 2.5, "audio_2")]
    assert [file.label for file in request.audio_files.values()] == ["hello.wav", "bye.wav", "answer.wav"]
    assert request.avatar_id == service.table.list_avatars(pinned_only=False)[0].id
    assert visitor.errors == [] or all("404" in error for error in visitor.errors), "the job has no source here"


def test_layout_stays_when_people_are_found(browser: Any, service: MemoryService, url: str, sample_video: Path) -> None:
    for width in (360, 1400):
        service.scans = [PeopleScan(0.25, None)]  # until the test has seen that the page searches
        visitor = Visitor(browser, url, viewport={"width": width, "height": 4000})
        visitor.until("document.querySelector('#engine').value && !document.querySelector('#speech .kinds').hidden")
        below = "document.querySelector('#options').getBoundingClientRect().top"
        visitor.page.set_input_files("#face input[type=file]", sample_video)
        visitor.until("document.querySelector('#face video')?.videoWidth")
        at = visitor.page.evaluate("document.querySelector('#several').getBoundingClientRect().top")
        since = visitor.page.evaluate("performance.now()")
        visitor.page.check("#several")
        assert visitor.page.evaluate("document.querySelector('#several').getBoundingClientRect().top") == at
        visitor.until("document.querySelectorAll('.searching .person').length === 2")
        expected = visitor.page.evaluate(below)
        service.scans = [PeopleScan(1, REPORT)]
        visitor.until(FOUND)
        assert visitor.page.evaluate(below) == pytest.approx(expected, abs=1)
        assert visitor.page.evaluate(SHIFT, since) < 0.02


def test_a_file_dropped_on_a_person_and_a_text(open_page: OpenPage, service: MemoryService) -> None:
    visitor = open_page()
    page = visitor.page
    _drop(visitor, 1, "dropped.wav")
    visitor.until("document.querySelector('.person:nth-child(2) .turn .name')?.textContent === 'dropped.wav'")
    page.click(".person:nth-child(1) [data-text=writeText]")
    visitor.submit()
    assert "marked in red" in visitor.until("document.querySelector('#composer-error').textContent")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.type("Good morning.")
    page.fill(".turn .voice input", "lee")
    page.click("#options summary")
    assert page.is_hidden("#loop") and page.is_hidden("#which")
    page.select_option("#idle-mouths", "closed")
    page.select_option("#subtitles-output", "track")
    page.check("#keep-sound")
    visitor.submit()
    visitor.until_status("queued")
    (options,) = (request.options for request in service.requests)
    assert (options.idle_mouths, options.background_gain_db, options.subtitles) == ("closed", -6, "track")
    (spoken,) = (turn for turn in options.turns or () if turn.text)
    assert (spoken.face, spoken.text, spoken.voice) == ("person:0", "Good morning.", "lee")


def test_subtitles_and_who_speaks_them(
    open_page: OpenPage, service: MemoryService, tmp_path: Path, sample_portrait: Path
) -> None:
    subtitles = tmp_path / "film.srt"
    subtitles.write_bytes(
        "\ufeff1\n00:00:00,200 --> 00:00:01,000\nANNA: Hello\n\n"
        "2\n00:00:01,600 --> 00:00:02,400\n小明：你好\n\n"
        "3\n00:00:02,500 --> 00:00:02,900\n小明：再见\nNote: a note\n\n"
        "4\n00:00:03,000 --> 00:00:03,900\nNote: another one\n".encode("utf-16-le")
    )
    visitor = open_page(locale="zh-CN")
    page = visitor.page
    page.set_input_files("#speech .everyone input[type=file]", sample_portrait)
    assert sample_portrait.name in visitor.until("document.querySelector('.everyone .notice').textContent")
    page.set_input_files("#speech .everyone input[type=file]", subtitles)
    visitor.until("document.querySelectorAll('.speaker').length === 3")
    chosen = "[...document.querySelectorAll('.speaker select')].map((select) => select.value)"
    assert page.evaluate(chosen) == ["", "", "none"], "what is not in capitals may be no name"
    page.select_option(".speaker select >> nth=0", "person:1")
    page.select_option(".speaker select >> nth=1", "offscreen")
    page.select_option(".speaker select >> nth=2", "")
    page.fill(".speaker input >> nth=0", "lee")
    page.click("#language")
    assert page.evaluate(chosen) == ["person:1", "offscreen", ""]
    page.click("#language")
    page.select_option(".speaker select >> nth=2", "none")
    assert page.is_hidden(".person .track >> nth=0")
    _drop(visitor, 0, "late.wav")
    assert page.locator(".turn").count() == 0, "the subtitles are spoken"
    assert visitor.serious_violations() == []
    visitor.picture("several-subtitles")
    visitor.submit()
    visitor.until_status("queued")
    (request,) = service.requests
    turns = [(turn.face, turn.text, turn.voice) for turn in request.options.turns or ()]
    assert turns[:2] == [("person:1", "Hello", "lee"), ("offscreen", "你好", None)]
    assert turns[-1][1] == "Note: another one"


def test_failed_search_can_be_repeated(browser: Any, service: MemoryService, url: str, sample_video: Path) -> None:
    problem = {"code": "stage_timeout", "detail": "Studio.scan: timed out after 60 s"}
    visitor = Visitor(browser, url, locale="zh-CN")
    page = visitor.page
    failure = {"status": 504, "content_type": "application/problem+json", "body": json.dumps(problem)}
    page.route("**/people", lambda route: route.fulfill(**failure), times=1)
    page.set_input_files("#face input[type=file]", sample_video)
    page.check("#several")
    assert "处理超时" in visitor.until("document.querySelector('.several .notice').textContent")
    visitor.submit()
    assert visitor.until("document.querySelector('#composer-error').textContent")
    page.click(".several button[data-text=retry]")
    visitor.until(FOUND)
    assert page.is_hidden(".several .notice")
    assert len(service.asked) == 1, "the video is sent once"


def test_job_with_turns_can_be_tried_again(open_page: OpenPage, service: MemoryService, sample_video: Path) -> None:
    visitor = open_page()
    page = visitor.page
    _add(visitor, 1, _sound("answer.wav", 1))
    visitor.submit()
    visitor.until_status("queued")
    page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    page.click("#stage button:text-is('Try again')")
    visitor.until_status("queued")
    first, second = service.requests
    sounds = [request.plan.audio["audio"].sha256 for request in service.requests]
    assert first.options.turns == second.options.turns and sounds[0] == sounds[1]
    page.route("**/source", lambda route: route.fulfill(path=sample_video))
    page.reload()
    visitor.until_status("queued")
    page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    page.click("#stage >> text=Use this face again")
    visitor.until(FOUND)
    page.click("#face .chosen button")  # without the video there are no people
    assert page.is_hidden("#several") and page.is_hidden(".several")
    assert page.is_visible("#speech .drop >> nth=0")


def test_saved_avatar_and_report_per_person(browser: Any, service: MemoryService, url: str, sample_video: Path) -> None:
    report = example_report()
    late = {name: report[name] for name in ("source", "mouth", "exemplars")}
    early = {**late, "source": {**late["source"], "audio_offset_ms": -80.0}}
    faces = [{"face": f"person:{n}", "seen": report["face"], **each} for n, each in enumerate((late, early))]
    cut = [{"start_seconds": 2.0, "cut_seconds": 0.5, "text": "Too long"}]
    service.report = {**report, "speakers": faces, "output": {**report["output"], "cut_texts": cut}}
    avatar = Lipwright(url).avatars.create(video=sample_video)
    visitor = Visitor(browser, url, locale="zh-CN")
    visitor.page.click("li:has(.close) button.face")
    visitor.page.check("#several")
    visitor.until(FOUND)
    assert visitor.text(".ruler").endswith("0:04"), "the length of the avatar's video"
    _add(visitor, 0, _sound("hello.wav", 1))
    visitor.submit()
    visitor.until_status("queued")
    (request,) = service.requests
    assert (request.avatar_id, len(service.asked)) == (avatar.id, 2), "the video is not sent again"
    service.finish(request.job_id)
    visitor.until_status("succeeded")
    report_text = visitor.text("#stage .report")
    assert "位于 0:02" in report_text
    assert "人物 0：原素材的声音晚了 120 毫秒" in report_text and "人物 1：原素材的声音早了 80 毫秒" in report_text
