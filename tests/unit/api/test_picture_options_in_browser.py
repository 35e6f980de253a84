"""Background, shape and file format on the page: what the form sends, and how results other than MP4 are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lipwright.jobs.model.record import JobStage, JobStatus
from lipwright.storage.file_keys import job_file_key
from tests.browser import SPEECH, Visitor
from tests.unit.api_server import MemoryService, SentJob
from tests.unit.on_disk import on_disk


def _form(browser: Any, url: str, face: Path, **context: Any) -> Visitor:
    """The page with speech, a face and open options."""
    visitor = Visitor(browser, url, **context)
    visitor.until("document.querySelector('#engine').value")
    visitor.choose(SPEECH, face)
    visitor.page.click("#options > summary")
    assert not visitor.page.is_visible("#fps"), "what is rarely set is folded"
    visitor.page.click("#rare > summary")
    return visitor


@pytest.fixture
def visitor(browser: Any, url: str, sample_portrait: Path) -> Visitor:
    return _form(browser, url, sample_portrait)


STAGE_IN_VIEW = """(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(
    document.querySelector("#stage").getBoundingClientRect()
)"""
CUT_OFF = """[...document.querySelectorAll("#composer select")].filter((select) => {
    const whole = select.cloneNode(true); // as wide as its longest choice
    whole.style.cssText = "position: absolute; width: auto";
    select.after(whole);
    const isCut = whole.offsetWidth > select.offsetWidth;
    whole.remove();
    return select.offsetParent && isCut;
}).map((select) => select.id)"""


def _sent(visitor: Visitor, service: MemoryService) -> SentJob:
    """Submit the form and return the request."""
    number = len(service.requests)
    visitor.submit()
    visitor.until("!document.querySelector('#submit').disabled")
    assert len(service.requests) == number + 1, visitor.text("#composer-error")
    return service.requests[-1]


def test_choices_reach_job(visitor: Visitor, service: MemoryService, sample_portrait: Path, sample_video: Path) -> None:
    plain = _sent(visitor, service).spec
    assert (plain.background, plain.crop, plain.size, plain.fps) == ("source", None, None, None)
    assert plain.format == "mp4"
    assert not visitor.page.is_visible("#matte")

    visitor.page.select_option("#background", "colour")
    visitor.page.fill("#colour", "#00b140")
    visitor.page.select_option("#crop", "9:16")
    visitor.page.select_option("#matte", "chroma")
    visitor.page.select_option("#size", "720x1280")
    visitor.page.select_option("#fps", "30")
    visitor.page.select_option("#quality", "best")
    coloured = _sent(visitor, service).options
    assert (coloured.background, coloured.matte) == ("#00b140", "chroma")
    assert (coloured.crop, coloured.size, coloured.fps) == ("9:16", "720x1280", 30)
    assert (plain.quality, coloured.quality) == ("balanced", "best")

    visitor.page.select_option("#background", "file")
    assert not visitor.page.is_visible("#colour")
    visitor.submit()
    assert "The background is missing" in visitor.until("document.querySelector('#composer-error').textContent")
    sound = {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}
    visitor.page.set_input_files("#background-file input", sound)
    assert "a.wav is an audio file. Choose a picture or a video." in visitor.text("#background-file")
    visitor.page.set_input_files("#background-file input", sample_portrait)
    assert not visitor.page.is_visible("#after-end")
    behind = _sent(visitor, service)
    assert behind.background_file is not None and behind.options.background is None
    stored = on_disk(service.files, job_file_key(behind.job_id, "background"))
    assert stored.read_bytes() == sample_portrait.read_bytes()
    visitor.page.click("#background-file button")
    visitor.page.set_input_files("#background-file input", sample_video)
    visitor.page.select_option("#after-end", "hold")
    assert _sent(visitor, service).options.background_loop == "hold"


def test_only_the_motion_of_stills_can_be_set(
    visitor: Visitor, service: MemoryService, sample_portrait: Path, sample_video: Path
) -> None:
    visitor.page.fill("#motion", "0.3")
    visitor.page.fill("#expressiveness", "1.3")
    assert visitor.text("#still-motion").split() == ["Motion", "of", "head", "and", "eyes", "30%", "0%", "100%"]
    assert visitor.text("#movement").split() == ["Mouth", "movement", "130%", "0%", "200%"]
    assert visitor.page.get_attribute("#expressiveness", "aria-valuetext") == "130%"
    assert not visitor.page.is_visible("#loop") and not visitor.page.is_visible("#keep-sound"), "of videos"
    visitor.page.select_option("#expression", "sad")
    options = _sent(visitor, service).options
    assert (options.motion, options.expression, options.head) == (0.3, "sad", "lively")
    visitor.page.click("#face .chosen button")
    assert not visitor.page.is_visible("#motion"), "no face is chosen"
    visitor.page.set_input_files("#face input[type=file]", sample_video)
    visitor.until("document.querySelector('#face video')")
    assert not visitor.page.is_visible("#motion")
    visitor.page.select_option("#loop", "hold")
    visitor.page.check("#keep-sound")
    options = _sent(visitor, service).options
    assert (options.motion, options.loop, options.background_gain_db) == (1, "hold", -6)
    assert options.expression == "neutral" and not visitor.page.is_visible("#expression")
    visitor.page.click("#face .chosen button")
    visitor.page.set_input_files("#face input[type=file]", sample_portrait)
    assert _sent(visitor, service).options.background_gain_db is None


def test_an_avatar_is_saved_with_its_background(visitor: Visitor, service: MemoryService, sample_video: Path) -> None:
    choice = visitor.page.locator("#background")
    visitor.page.check("#keep")
    choice.select_option("file")
    visitor.page.set_input_files("#background-file input", sample_video)
    sent = _sent(visitor, service)
    (avatar,) = service.table.list_avatars()
    assert avatar.settings.background_id == sent.options.background_id
    assert sent.background_file is None and sent.avatar_id == avatar.id
    assert choice.input_value() == "" and visitor.text("#background option:checked") == "As saved with the avatar"
    assert not _sent(visitor, service).options.names_background
    choice.select_option("source")
    assert _sent(visitor, service).spec.background == "source"
    visitor.page.click("#face .faces li:first-child button")
    assert visitor.page.is_disabled("#background option[value='']"), "a new face has no background of its own"


def test_the_settings_of_an_avatar_are_changed(visitor: Visitor, service: MemoryService, sample_video: Path) -> None:
    page = visitor.page
    page.fill("#expressiveness", "1.4")
    page.check("#keep")
    sent = _sent(visitor, service)
    assert sent.options.expressiveness == service.table.list_avatars()[0].settings.expressiveness == 1.4

    page.click(".avatar-settings summary")
    assert page.input_value("#avatar-expressiveness") == "1.4"
    page.select_option("#avatar-background", "file")
    page.click("#avatar-save")
    assert "Choose a picture or a video" in visitor.text(".avatar-settings")
    page.set_input_files("#avatar-background-file input", sample_video)
    page.fill("#avatar-expressiveness", "0.6")
    visitor.picture("avatar-settings")
    assert visitor.serious_violations() == []
    page.click("#avatar-save")
    visitor.until("document.querySelector('.avatar-settings').textContent.includes('Saved.')")
    (avatar,) = service.table.list_avatars()
    assert (avatar.settings.expressiveness, avatar.settings.background_loop) == (0.6, "loop")
    assert avatar.settings.background_id is not None and not service.uploads()
    assert page.input_value("#avatar-background") == page.input_value("#background") == ""
    assert page.input_value("#expressiveness") == "0.6", "the next video begins with it"

    page.select_option("#avatar-background", "colour")
    page.fill("#avatar-colour", "#00b140")
    page.click("#avatar-save")
    visitor.until("!document.querySelector('#avatar-save').disabled")
    assert service.table.list_avatars()[0].settings.background == "#00b140"
    assert page.input_value("#avatar-background") == "colour"
    page.click("#face .faces li:first-child button")
    assert page.input_value("#expressiveness") == "1" and not page.is_visible(".avatar-settings")


def test_entered_sizes_and_rates_are_checked(visitor: Visitor, service: MemoryService) -> None:
    page = visitor.page
    page.select_option("#size", "1280x720")
    page.select_option("#crop", "9:16")
    assert page.input_value("#size") == "", "a size of another shape is not offered"
    page.select_option("#size", "other")
    for width, height, message in (
        ("", "", "Enter an even width"),
        ("641", "480", "Enter an even width"),
        ("4096", "4096", "at most 3840 × 2160 pixels"),
        ("640", "128", "at most four times as long"),
        ("640", "480", "does not have the chosen shape"),
    ):
        page.fill("#width", width)
        page.fill("#height", height)
        visitor.submit()
        assert message in visitor.text("#composer-error")
    page.fill("#width", "360")
    page.fill("#height", "640")
    page.select_option("#fps", "other")
    page.fill("#rate", "61")
    visitor.submit()
    assert "Enter 1 to 60 frames per second" in visitor.text("#composer-error")
    page.fill("#rate", "29.97")
    assert service.requests == []
    options = _sent(visitor, service).options
    assert (options.size, options.fps) == ("360x640", 29.97)


def test_a_transparent_background_chooses_a_format(visitor: Visitor, service: MemoryService) -> None:
    visitor.page.select_option("#background", "transparent")
    assert "MP4 cannot be transparent" in visitor.text("#format-note")
    assert visitor.page.is_disabled("#format option[value=mp4]")
    assert visitor.page.is_disabled("#subtitles-output option[value=track]")
    request = _sent(visitor, service)
    assert (request.options.background, request.options.format) == ("transparent", "webm")
    visitor.page.select_option("#background", "blur")
    assert visitor.page.input_value("#format") == "mp4" and not visitor.page.is_visible("#format-note")
    assert visitor.page.is_enabled("#subtitles-output option[value=track]")
    request = _sent(visitor, service)
    assert (request.options.background, request.options.format) == ("blur", "mp4")


def test_results_without_a_preview(visitor: Visitor, service: MemoryService, sample_portrait: Path) -> None:
    visitor.page.route("**/source", lambda route: route.fulfill(path=sample_portrait))
    visitor.page.select_option("#format", "webm")
    job_id = _sent(visitor, service).job_id
    visitor.until_status("queued")
    assert visitor.text("#stage .placeholder") == "The video plays here when it is finished."
    assert visitor.page.is_visible("#stage progress") and not visitor.page.is_visible("#stage video")
    assert visitor.page.evaluate("document.activeElement.id") == "stage-title", "the keyboard goes on there"
    service.finish(job_id)
    visitor.until_status("succeeded")
    visitor.until("document.querySelector('#stage video').src.endsWith('/video')")
    assert not visitor.page.is_visible("#stage .placeholder")
    visitor.page.evaluate("document.querySelector('#submit').scrollIntoView({ block: 'end' })")
    visitor.until("document.querySelector('#stage figure:last-child img')?.naturalWidth")
    assert visitor.page.evaluate(STAGE_IN_VIEW), "the result stays beside the form"
    visitor.page.set_viewport_size({"width": 360, "height": 740})
    parts = ("#stage video", "#stage a.main", "#stage figure:last-child")
    tops = [visitor.page.locator(part).bounding_box()["y"] for part in parts]
    assert tops == sorted(tops), "the download follows the result"
    visitor.page.set_viewport_size({"width": 1280, "height": 900})

    visitor.page.select_option("#format", "mov")
    assert not visitor.page.is_visible("#quality")
    job_id = _sent(visitor, service).job_id
    visitor.until_status("queued")
    assert "Browsers do not play MOV" not in visitor.text("#stage")
    assert "can be downloaded here when it is finished" in visitor.text("#stage .placeholder")
    visitor.page.route("**/thumbnail", lambda route: route.fulfill(path=sample_portrait))
    rendering = {"status": JobStatus.RUNNING, "stage": JobStage.RENDERING, "num_frames": 1000}
    service.table.update_job(job_id, **rendering)
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('frame 0 of')")
    service.table.update_job(job_id, num_frames_done=500)
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('left')")
    visitor.until("document.querySelector('#stage figcaption').textContent === 'First frame'")
    assert visitor.page.text_content("#announcement") == "Rendering", "not each frame is announced"
    service.finish(job_id)
    visitor.until_status("succeeded")
    assert "Browsers do not play MOV" in visitor.text("#stage")
    result = "#stage figure:first-child"
    assert visitor.page.get_attribute(f"{result} .screen > img", "src") == f"/v1/jobs/{job_id}/thumbnail"
    assert visitor.page.is_visible(f"{result} .screen > img") and not visitor.page.is_visible(f"{result} video")
    assert visitor.text("#stage a.main") == "Download MOV"
    assert visitor.page.get_attribute("#stage a.main", "href") == f"/v1/jobs/{job_id}/video?download=true"


def test_the_choices_fit_a_phone(browser: Any, url: str, sample_video: Path) -> None:
    visitor = _form(browser, url, sample_video, viewport={"width": 360, "height": 740})
    for background in ("colour", "file", "transparent"):
        visitor.page.select_option("#background", background)
        assert visitor.serious_violations() == []
        for language in ("zh-CN", "en"):
            visitor.page.click("#language")
            assert visitor.page.evaluate("document.documentElement.lang") == language
            assert visitor.page.evaluate("document.documentElement.scrollWidth") == 360
            assert visitor.page.evaluate(CUT_OFF) == []
            visitor.picture(f"{background}-{language}")
    visitor.page.set_viewport_size({"width": 1280, "height": 900})
    assert visitor.page.evaluate(CUT_OFF) == [], "in two columns"
