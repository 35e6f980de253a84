"""The page and `/docs` in a real browser, on a service whose jobs do what the test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import SubtitlesConfig, TtsConfig
from errors import FaceNotFoundError, MediaError
from jobs.model.base import new_id, utc_now
from jobs.model.record import JobStatus
from storage.file_keys import job_file_key, source_key
from storage.local.api_keys import FileKeyRing
from tests.browser import ARE_ENDED, HELD_MEDIA, Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api_server import MemoryService, serving
from tests.unit.on_disk import on_disk
from tests.unit.segmented_job import RenderingJob, SegmentedJob
from tests.unit.speech.speech_server import speaking
from tests.unit.test_errors import error_classes

VIDEO = "document.querySelector('#stage video')"


SPEECH: Any = {"name": "speech.wav", "mimeType": "audio/wav", "buffer": b"RIFF" + bytes(2000)}
PICTURE: Any = {"name": "face.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + bytes(64)}


def test_page_asks_for_the_api_key_once(browser: Any, url: str, service: MemoryService) -> None:
    service.outcome = "video"
    _, key = FileKeyRing(service.files.root).add("a studio")
    visitor = Visitor(browser, url)
    visitor.until("document.querySelector('#sign-in').open")
    visitor.picture("sign-in")
    assert visitor.serious_violations() == []
    visitor.page.fill("#key", "lw_000000000000_nobodynobodynobodyno")
    visitor.page.keyboard.press("Enter")
    assert "not known" in visitor.until("document.querySelector('#sign-in-error').textContent")
    visitor.page.fill("#key", key)
    visitor.page.keyboard.press("Enter")
    visitor.until("!document.querySelector('#sign-in').open && document.querySelector('#engine').value")
    visitor.page.reload()
    visitor.until("document.querySelector('#engine').value")
    assert not visitor.page.evaluate("document.querySelector('#sign-in').open"), "the cookie holds"
    assert visitor.page.evaluate("document.cookie") == "", "scripts cannot read it"
    visitor.choose(SPEECH, PICTURE)
    visitor.submit()
    visitor.until_status("succeeded")
    assert service.requests[0].owner is not None
    visitor.until("document.querySelector('#stage video').currentSrc.endsWith('/video')")
    visitor.page.click("#usage summary")
    row = visitor.until("document.querySelector('#usage tr:nth-child(2)')?.innerText")
    assert row.split()[:4] == [str(utc_now().date()), "1", "0", "0"]
    assert visitor.serious_violations() == []
    with visitor.page.expect_navigation():
        visitor.page.click("#sign-out")
    visitor.until("document.querySelector('#sign-in')?.open")


def _opened(
    browser: Any, url: str, service: MemoryService, folder: Path, on_preview: Callable[[Any], object] | None = None
) -> tuple[Visitor, RenderingJob]:
    """The page with a job on its stage that is being rendered; `on_preview` handles requests of its preview."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        job = RenderingJob(service, http, SegmentedJob(folder, Fraction(25)))
    visitor = Visitor(browser, url)
    if on_preview is not None:
        visitor.page.route("**/preview", on_preview)
    visitor.page.click("#jobs li button")
    return visitor, job


def test_composer_error_survives_loading_of_avatars(browser: Any, url: str) -> None:
    visitor = Visitor(browser, url)
    visitor.page.goto("about:blank")  # what the first page asks for late must not be held in place of the second's
    held: list[Any] = []
    visitor.page.route("**/v1/avatars", lambda route: held.append(route))
    visitor.page.goto(url)
    visitor.submit()
    assert "Speech is missing" in visitor.until("document.querySelector('#composer-error').textContent")
    wait_until_held(visitor, held)
    assert not visitor.page.query_selector(".avatars ul"), "the avatars have not come yet"
    held[0].continue_()
    visitor.until("document.querySelector('.avatars ul') !== null")
    assert visitor.page.is_visible("#composer-error")


def test_broken_preview_is_restarted(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        route.continue_() if held else held.append(route)

    visitor, job = _opened(browser, url, service, tmp_path, hold_first)
    wait_until_held(visitor, held)
    job.finish_segment(0)
    job.finish_segment(1)
    visitor.until("document.querySelector('#stage .status').textContent.includes('26')")
    held[0].abort()  # no other change of the job follows
    visitor.until(f"{VIDEO}.currentTime > 0.2")
    job.finish_segment(2)
    job.finish()
    visitor.until(f"{VIDEO}.src.endsWith('/video')")  # the preview was seen to its end


def test_missing_preview_is_replaced_by_result(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    visitor, job = _opened(browser, url, service, tmp_path, lambda route: route.abort())
    job.finish_segment(0)
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('25')")
    job.finish()
    visitor.until(f"{VIDEO}.src.endsWith('/video') && {VIDEO}.duration > 3")


def test_refused_events_are_requested_again(browser: Any, url: str, service: MemoryService) -> None:
    visitor = Visitor(browser, url)
    visitor.choose(SPEECH, PICTURE)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')")
    visitor.page.route("**/events", lambda route: route.fulfill(status=503), times=1)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('1 before')")
    first, second = (request.job_id for request in service.requests)
    service.finish(first)
    service.finish(second)
    visitor.until_status("succeeded")
    visitor.until("document.querySelectorAll('#jobs li[data-status=succeeded]').length === 2")


def test_late_answer_about_a_job_leaves_another_open(browser: Any, url: str, service: MemoryService) -> None:
    visitor = Visitor(browser, url)
    page = visitor.page
    first = _submitted(visitor, service)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status').textContent.includes('1 before')")
    held: list[Any] = []
    page.route("**/cancel", lambda route: held.append(route))
    page.click("#stage >> text=Cancel")
    wait_until_held(visitor, held)
    page.evaluate(f"location.hash = 'job={first}'")
    visitor.until("!document.querySelector('#stage .status').textContent.includes('1 before')")
    with page.expect_response("**/cancel"):
        held[0].continue_()
    visitor.until("document.querySelector('#jobs li[data-status=cancelled]')")
    assert page.get_attribute("#stage .status", "data-status") == "queued"


def test_recording_ends_when_its_buttons_are_replaced(browser: Any, url: str) -> None:
    visitor = Visitor(browser, url)
    page = visitor.page
    page.evaluate(HELD_MEDIA)
    page.click("#face .record")
    page.evaluate("allow()")
    visitor.until("document.querySelector('#face .recorder')")
    page.click("#options > summary")
    page.select_option("#which", "1")
    page.set_input_files("#face input[type=file]", PICTURE)
    visitor.until(ARE_ENDED)
    assert visitor.text("#face .chosen .name") == PICTURE["name"]


def test_click_on_picture_chooses_face(browser: Any, url: str, service: MemoryService, sample_portrait: Path) -> None:
    visitor = Visitor(browser, url)
    visitor.choose(SPEECH, sample_portrait)
    visitor.page.click("#options summary")
    visitor.page.select_option("#which", "point")
    visitor.submit()
    assert "Click on the face" in visitor.until("document.querySelector('#composer-error').textContent")
    width, height = visitor.until(
        "(picture => picture?.naturalWidth && [picture.naturalWidth, picture.naturalHeight])"
        "(document.querySelector('.aim img'))"
    )
    visitor.page.click(".aim img")  # in its middle
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')")
    kind, _, place = service.requests[0].options.face.partition(":")
    x, y = map(int, place.split(","))
    assert kind == "point"
    assert (abs(x - width / 2) <= 3, abs(y - height / 2) <= 3) == (True, True), (x, y, width, height)


@pytest.mark.parametrize("width", [1280, 360])
def test_face_that_is_not_found_is_marked_in_the_picture(
    browser: Any, tmp_path: Path, sample_portrait: Path, width: int
) -> None:
    service = MemoryService(tmp_path)
    speech = tmp_path / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
    with serving(service) as url:
        visitor = Visitor(browser, url, viewport={"width": width, "height": 800}, has_touch=width < 500)
        page = visitor.page
        visitor.choose(speech, sample_portrait)
        visitor.submit()
        visitor.until_status("queued")
        job = service.table.get_job(service.requests[0].job_id)
        shutil.copy(sample_portrait, on_disk(service.files, source_key(job.avatar_key)))
        service.fail(job.id, FaceNotFoundError("Found no face"))
        visitor.until_status("failed")
        page.click("#stage button:text-is('Change and try again')")
        visitor.until("document.querySelector('#speech audio') && document.querySelector('.handle.chin')?.style.left")
        assert page.input_value("#which") == "points"
        visitor.picture(f"marks-{width}")
        assert visitor.serious_violations() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        size = page.evaluate("((i) => [i.naturalWidth, i.naturalHeight])(document.querySelector('.marks img'))")
        page.locator(".handle.chin").scroll_into_view_if_needed()
        pin, picture = page.locator(".handle.chin").bounding_box(), page.locator(".marks img").bounding_box()
        x, y = pin["x"] + pin["width"] / 2, pin["y"] + pin["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 5, y + 8)
        page.mouse.move(x + 10, y + 20)
        page.mouse.up()
        page.focus(".handle.left_eye")
        for key in ("ArrowRight", "ArrowUp", "Shift+ArrowRight"):
            page.keyboard.press(key)
        visitor.submit()
        visitor.until_status("queued")
    first, second = service.requests
    assert first.face_points is None and second.face_points is not None
    pixel = max(size[0] / picture["width"], size[1] / picture["height"])  # of the picture, per one of the page
    marks = second.face_points
    assert marks.chin == pytest.approx((0.5 * size[0] + 10 * pixel, 0.75 * size[1] + 20 * pixel), abs=1.5)
    assert marks.left_eye == pytest.approx((0.4 * size[0] + 11 * pixel, 0.42 * size[1] - pixel), abs=1.5)
    assert marks.right_eye == pytest.approx((0.6 * size[0], 0.42 * size[1]), abs=1)


def test_text_and_visible_mark_reach_the_job(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    with speaking() as voice, serving(service, tts=TtsConfig(url=voice.url, voice="kim", max_chars=50)) as url:
        visitor = Visitor(browser, url)
        visitor.page.click("#speech >> text=Text")
        visitor.page.set_input_files("#face input[type=file]", sample_portrait)
        visitor.submit()
        assert "Speech is missing" in visitor.until("document.querySelector('#composer-error').textContent")
        assert visitor.page.get_attribute("#text", "maxlength") == "50"
        visitor.page.fill("#text", "Good morning.")
        visitor.page.fill("#voice", "lee")
        visitor.page.click("#options summary")
        visitor.page.check("#visible-label")
        visitor.page.fill("#expressiveness", "1.5")
        visitor.picture("text")
        assert visitor.serious_violations() == []
        visitor.submit()
        visitor.until("document.querySelector('#stage .status')")
        (request,) = service.requests
        assert (request.text, request.voice) == ("Good morning.", "lee")
        assert visitor.page.evaluate("[...document.querySelectorAll('#voices option')].map((o) => o.value)") == ["kim"]
        assert (request.options.visible_label, request.options.expressiveness) == (True, 1.5)
        assert "labelled as AI-generated" in visitor.text("#composer")


def test_translation_of_a_video_reaches_the_job(
    browser: Any, tmp_path: Path, sample_portrait: Path, sample_video: Path
) -> None:
    service = MemoryService(tmp_path)
    servers = SubtitlesConfig(transcription_url="http://127.0.0.1:1", translation_url="http://127.0.0.1:1")
    with speaking() as voice, serving(service, tts=TtsConfig(url=voice.url, voice="kim"), subtitles=servers) as url:
        visitor = Visitor(browser, url, locale="zh-CN", viewport={"width": 360, "height": 740})
        page = visitor.page
        page.focus("#speech .kinds button:nth-child(3)")
        page.keyboard.press("Enter")
        page.set_input_files("#face input[type=file]", sample_portrait)
        visitor.submit()
        visitor.until("/语言/.test(document.querySelector('#composer-error').textContent)")
        page.fill("#translate-to", "German")
        visitor.submit()
        visitor.until("/视频/.test(document.querySelector('#composer-error').textContent)")
        page.click("#face .chosen .file button")
        page.set_input_files("#face input[type=file]", sample_video)
        visitor.picture("translation")
        assert visitor.serious_violations() == []
        visitor.submit()
        visitor.until("document.querySelector('#stage .status')")
    spec = service.requests[0].spec
    assert (spec.translate_to, spec.review, spec.audio, "loop" in spec.model_fields_set) == ("deu", True, None, False)


def test_many_avatars_leave_connections_free(
    browser: Any, url: str, service: MemoryService, sample_video: Path
) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for number in range(8):  # a browser opens six connections to one service
            film = sample_video.read_bytes() + b"\0\0\0\x08free" * (number + 1)
            assert http.post("/v1/avatars", files={"video": (f"{number}.mp4", film)}).status_code == 202
    visitor = Visitor(browser, url)
    visitor.until("document.querySelectorAll('.face canvas').length === 8")
    assert visitor.page.evaluate("fetch('/healthz').then((answer) => answer.status)") == 200
    assert not visitor.page.evaluate("document.querySelector('.faces video')")
    problem = {"code": "conflict", "detail": "A job uses the avatar."}
    visitor.page.route("**/v1/avatars/*", lambda route: route.fulfill(status=409, json=problem))
    visitor.page.click(".faces .close >> nth=0")
    visitor.page.click("#confirm button[value=yes]")
    visitor.until("document.querySelector('.avatars .notice').textContent.includes('A job uses the avatar.')")


def test_file_of_the_wrong_type_is_refused_by_the_page(browser: Any, url: str) -> None:
    visitor = Visitor(browser, url)
    sound = {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": b"PNG"}
    text = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}
    for place, file, words in (
        ("#face", sound, "a.wav is an audio file. Choose a video or a portrait."),
        ("#speech", picture, "a.png is a picture. Choose an audio file, or a video with sound."),
        ("#face", text, "a.txt is not an audio, video or image file."),
    ):
        visitor.page.set_input_files(f"{place} input[type=file]", file)
        assert words in visitor.text(place)
        assert visitor.page.query_selector(f"{place} .chosen") is None
    visitor.page.set_input_files("#face input[type=file]", picture)
    assert "a.png" in visitor.text("#face .chosen")
    visitor.page.click("#options > summary")
    visitor.page.click("#rare > summary")
    assert visitor.text("#engine option:checked") == "Warp (default)"
    assert "own mouth images; needs no weights" in visitor.text("#engine-note")


def _submitted(visitor: Visitor, service: MemoryService) -> str:
    """The ID of a job that was sent by the form."""
    visitor.choose(SPEECH, PICTURE)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')")
    return service.requests[-1].job_id


def test_job_is_shown_after_reload_and_in_a_second_tab(browser: Any, url: str, service: MemoryService) -> None:
    visitor = Visitor(browser, url)
    job_id = _submitted(visitor, service)
    address = visitor.page.url
    assert address.endswith(f"#job={job_id}")
    visitor.page.reload()
    visitor.until_status("queued")
    second = Visitor(browser, address)
    second.until_status("queued")
    service.finish(job_id)
    for tab in (visitor, second):
        tab.until_status("succeeded")
    visitor.page.click("#stage >> text=Delete")
    visitor.page.click("#confirm button[value=yes]")
    visitor.until("location.hash === ''")
    second.page.reload()
    assert "does not exist any more" in second.until("document.querySelector('#banner').textContent")
    assert second.page.evaluate("location.hash") == ""


def test_cancelled_job_can_be_retried(browser: Any, url: str, service: MemoryService) -> None:
    visitor = Visitor(browser, url)
    job_id = _submitted(visitor, service)
    visitor.page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    visitor.page.click("#stage button:text-is('Try again')")
    visitor.until_status("queued")
    again = service.requests[-1]
    assert again.job_id != job_id and again.audio.sha256 == service.requests[0].audio.sha256
    visitor.page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    source = source_key(service.table.get_job(again.job_id).avatar_key)
    on_disk(service.files, source).write_bytes(PICTURE["buffer"])
    on_disk(service.files, job_file_key(again.job_id)).unlink()
    visitor.page.reload()  # the files are not known any more, but the face is kept with the job
    visitor.until_status("cancelled")
    visitor.page.click("#stage button:text-is('Try again')")
    assert "no longer has the speech" in visitor.until("document.querySelector('#composer-error').textContent")
    visitor.until("document.querySelector('#face .chosen') !== null")
    assert len(service.requests) == 2


def test_failed_job_among_200_is_retried(browser: Any, url: str, service: MemoryService, sample_portrait: Path) -> None:
    visitor = Visitor(browser, url)
    page = visitor.page
    visitor.choose(SPEECH, sample_portrait)
    page.click("#options > summary")
    page.select_option("#crop", "9:16")
    page.fill("#expressiveness", "1.3")
    visitor.submit()
    visitor.until_status("queued")
    first = service.table.get_job(service.requests[0].job_id)
    shutil.copy(sample_portrait, on_disk(service.files, source_key(first.avatar_key)))
    service.fail(first.id, FaceNotFoundError("Found no face: searched 75 frames"))
    ids = [new_id() for _ in range(199)]
    for job_id in ids:
        other = {"id": job_id, "status": JobStatus.SUCCEEDED, "created_at": utc_now()}
        service.table.insert_job(first.model_copy(update=other))
    small = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'  # 200 photographs take seconds to draw
    page.route("**/thumbnail", lambda route: route.fulfill(body=small, content_type="image/svg+xml"))
    page.goto(url)
    tiles = "document.querySelectorAll('#jobs li').length"
    for shown in (48, 96, 144, 192):
        visitor.until(f"{tiles} === {shown}")
        page.focus("#more")
        page.keyboard.press("Enter")
        visitor.until(f"document.activeElement.closest('#jobs li:nth-child({shown + 1})')")
    assert page.evaluate(tiles) == 200 and page.is_hidden("#more")
    page.focus("#jobs li:last-child button")
    visitor.until("document.querySelector('#jobs li:last-child img')?.naturalWidth")
    assert "No face was found." in visitor.text("#jobs li:last-child")
    page.keyboard.press("Enter")
    visitor.until_status("failed")
    assert page.evaluate("document.activeElement.id") == "stage-title"
    assert visitor.text("#stage [role=alert]").startswith("No face was found. Use a clear")
    assert page.is_hidden("#stage details p")
    page.click("#stage details summary")
    assert visitor.text("#stage details p") == "Found no face: searched 75 frames"
    visitor.until("document.querySelector('#stage figure:last-child img')?.naturalWidth")
    visitor.picture("failed")
    assert visitor.serious_violations() == []
    page.click("#stage button:text-is('Change and try again')")
    visitor.until("document.querySelector('#speech audio') && document.querySelector('#face img')")
    visitor.submit()
    visitor.until_status("queued")
    page.evaluate(f"location.hash = 'job={first.id}'")
    visitor.until_status("failed")
    page.click("#stage button:text-is('Try again')")
    visitor.until_status("queued")
    jobs = [service.table.get_job(job_id) for job_id in (service.requests[1].job_id, page.url.partition("#job=")[2])]
    for job in jobs:
        assert job.options == first.options
        assert job.plan.audio["audio"].sha256 == first.plan.audio["audio"].sha256
    assert jobs[1].id not in (first.id, jobs[0].id)
    page.unroute_all(behavior="wait")  # a request of the page, which polls, would fail in the next test


def test_errors_use_the_language_of_the_page(browser: Any, url: str, service: MemoryService) -> None:
    visitor = Visitor(browser, url, locale="zh-CN")
    job_id = _submitted(visitor, service)
    service.fail(job_id, MediaError("speech.wav: Invalid data found when processing input"))
    visitor.until_status("failed")
    alert_text = visitor.text("#stage [role=alert]")
    assert alert_text.startswith("speech.wav：无法读取该文件") and "Invalid" not in alert_text
    visitor.page.click("#language")
    alert_text = visitor.text("#stage [role=alert]")
    assert alert_text.startswith("speech.wav: This file cannot be read.") and "Invalid" not in alert_text


def test_every_error_has_advice_in_every_language(browser: Any, url: str) -> None:
    texts = Visitor(browser, url).page.evaluate(
        "import(new URL('strings.js', document.querySelector('script[type=module]').src)).then((m) => m.TEXTS)"
    )
    assert {kind.code for kind in error_classes()} <= texts["advice"].keys()
    assert not any(chinese.isascii() for _, chinese in texts["advice"].values())


CLIP = {"name": "wave.mp4", "mimeType": "video/mp4", "buffer": b"film"}
NAMES = "[...document.querySelectorAll('.clips .name')].map((name) => name.textContent).join()"


def test_clips_are_added_and_deleted_with_the_keyboard(browser: Any, url: str, service: MemoryService) -> None:
    service.looked_at = "face"
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        http.post("/v1/avatars", files={"video": ("person.mp4", b"person")})
    visitor = Visitor(browser, url)
    page = visitor.page
    assert not page.is_visible("#clip-add")
    page.click(".face:has-text('person.mp4')")
    page.focus("summary:has-text('Clips of this avatar')")
    page.keyboard.press("Enter")
    page.fill("#clip-name", "A wave")
    page.press("#clip-name", "Enter")
    assert "Enter a name" in visitor.until("document.querySelector('.avatar-clips .bad:not([hidden])')?.textContent")
    page.fill("#clip-name", "wave")
    page.set_input_files(".avatar-clips input[type=file]", CLIP | {"name": "a.png", "mimeType": "image/png"})
    assert "a.png is a picture" in visitor.text(".avatar-clips")
    page.set_input_files(".avatar-clips input[type=file]", CLIP)
    page.select_option("#clip-kind", "talk")
    page.press("#clip-name", "Enter")
    visitor.until(f"{NAMES} === 'wave'")
    (avatar,) = service.table.list_avatars()
    assert avatar.clips["wave"].kind == "talk"
    assert visitor.text(".clips .state") == "While speaking"
    service.looked_at = FaceNotFoundError("The clip does not show the person of the avatar.")
    page.fill("#clip-name", "nod")
    page.set_input_files(".avatar-clips input[type=file]", CLIP | {"buffer": b"another person"})
    page.click("#clip-add")
    visitor.until(f"{NAMES} === 'wave,nod'")
    assert "does not show the person" in visitor.text(".avatar-clips .notice:not([hidden])")
    film = "document.querySelector('.clips video')?.getAttribute('src')"
    page.hover(".clips .face:has-text('wave')")
    assert visitor.until(film).endswith(f"/{avatar.id}/clips/wave/source")
    page.hover("#clip-name")
    visitor.until(f"!{film}")
    page.focus(".clips .face:has-text('wave')")
    visitor.until(film)
    page.keyboard.press("Tab")
    visitor.until(f"!{film}")
    visitor.picture("clips")
    assert visitor.serious_violations() == []
    page.focus("button[aria-label='Delete clip wave']")
    page.keyboard.press("Enter")
    page.click("#confirm button[value=yes]")
    visitor.until(f"{NAMES} === 'nod'")
    visitor.until("document.activeElement.tagName === 'SUMMARY'")


def test_docs_try_it_out_with_files_makes_job(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    files = {"audio": tmp_path / "talk.wav", "video": tmp_path / "face.mp4"}
    for path in files.values():
        path.write_bytes(bytes(900))
    visitor = Visitor(browser, f"{url}/docs")
    operation = visitor.page.locator("#operations-jobs-submit_job")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    for name, path in files.items():
        operation.locator(f"tr[data-property-name={name}] input[type=file]").set_input_files(path)
    rows = operation.locator("tr[data-property-name]").all()
    fields = [row.locator("input:not([type=checkbox]):not([type=file]), select, textarea").all() for row in rows]
    filled = {field.input_value() for each in fields for field in each} - {"", "{}"}
    assert len(rows) > 40 and filled == set()
    with visitor.page.expect_response("**/v1/jobs*") as answer:
        operation.locator("button.execute").click()
    assert answer.value.status == 202, answer.value.text()
    assert len(service.requests) == 1 and visitor.errors == []
