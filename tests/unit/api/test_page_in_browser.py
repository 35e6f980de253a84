"""The page in a real browser, on a service whose jobs do what the test says: keys, queues, lines that break."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from config import SubtitlesConfig, TtsConfig
from errors import FaceNotFoundError, LipwrightError, MediaError
from jobs.model.base import new_id, utc_now
from jobs.model.record import JobStatus
from storage.file_keys import job_file_key, source_key
from storage.local.api_keys import FileKeyRing
from tests.browser import Visitor
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api_server import MemoryService, serving
from tests.unit.on_disk import on_disk
from tests.unit.segmented_job import RenderingJob, SegmentedJob
from tests.unit.speech.speech_server import speaking

VIDEO = "document.querySelector('#stage video')"


@contextmanager
def live_socket(url: str, avatar_id: str) -> Iterator[None]:
    """A session that somebody else holds."""
    address = f"{url.replace('http', 'ws', 1)}/v1/live?avatar_id={avatar_id}"
    for _ in range(600):  # a slot is free once the service notices that its client left
        with connect(address, proxy=None, max_size=2**24) as socket:
            if "busy" not in str(socket.recv(timeout=30)):
                yield
                return
        time.sleep(0.1)
    raise AssertionError("no place was freed")


def _begin_live(visitor: Visitor) -> None:
    for _ in range(100):
        visitor.page.click("#live-start")
        visitor.until("!['connecting', ''].includes(document.querySelector('#live').dataset.state)")
        if visitor.page.evaluate("document.querySelector('#live').dataset.state") == "idle":
            return
        visitor.page.wait_for_timeout(100)
    raise AssertionError(visitor.text("#live"))


def _picture(folder: Path) -> Path:
    """A file that the form takes for a picture."""
    path = folder / "face.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    return path


def test_page_asks_for_the_api_key_once(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = "video"
    _, key = FileKeyRing(service.files.root).add("a studio")
    speech = tmp_path / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
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
    visitor.choose(speech, _picture(tmp_path))
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
    for _ in range(3000):
        if held:
            break
        visitor.page.wait_for_timeout(20)
    assert not visitor.page.query_selector(".avatars ul"), "the avatars have not come yet"
    held[0].continue_()
    visitor.until("document.querySelector('.avatars ul') !== null")
    assert visitor.page.is_visible("#composer-error")


def test_broken_preview_is_restarted(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        route.continue_() if held else held.append(route)

    visitor, job = _opened(browser, url, service, tmp_path, hold_first)
    for _ in range(3000):
        if held:
            break
        visitor.page.wait_for_timeout(20)
    job.finish_segment(0)
    job.finish_segment(1)
    visitor.until("document.querySelector('#stage .status').textContent.includes('26')")
    held[0].abort()  # no other change of the job follows
    visitor.until(f"{VIDEO}.currentTime > 0.2")
    job.finish_segment(2)
    job.finish()
    visitor.until(f"{VIDEO}.src.endsWith('/video')")  # the preview was seen to its end


def test_missing_preview_is_replaced_by_the_result(
    browser: Any, url: str, service: MemoryService, tmp_path: Path
) -> None:
    visitor, job = _opened(browser, url, service, tmp_path, lambda route: route.abort())
    job.finish_segment(0)
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('25')")
    job.finish()
    visitor.until(f"{VIDEO}.src.endsWith('/video') && {VIDEO}.duration > 3")


def test_refused_events_are_requested_again(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    visitor = Visitor(browser, url)
    speech = tmp_path / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
    visitor.choose(speech, _picture(tmp_path))
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


def test_click_on_the_picture_chooses_the_face(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    speech = tmp_path / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
    with serving(service) as url:
        visitor = Visitor(browser, url)
        visitor.choose(speech, sample_portrait)
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


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_translation_of_a_video_reaches_the_job(
    browser: Any, tmp_path: Path, sample_portrait: Path, sample_video: Path, locale: str
) -> None:
    service = MemoryService(tmp_path)
    servers = SubtitlesConfig(transcription_url="http://127.0.0.1:1", translation_url="http://127.0.0.1:1")
    with speaking() as voice, serving(service, tts=TtsConfig(url=voice.url, voice="kim"), subtitles=servers) as url:
        visitor = Visitor(browser, url, locale=locale, viewport={"width": 360, "height": 740})
        page = visitor.page
        page.focus("#speech .kinds button:nth-child(3)")
        page.keyboard.press("Enter")
        page.set_input_files("#face input[type=file]", sample_portrait)
        visitor.submit()
        visitor.until("/language|语言/.test(document.querySelector('#composer-error').textContent)")
        page.fill("#translate-to", "German")
        visitor.submit()
        visitor.until("/video|视频/.test(document.querySelector('#composer-error').textContent)")
        page.click("#face .chosen .file button")
        page.set_input_files("#face input[type=file]", sample_video)
        visitor.picture(f"translation-{locale}")
        assert visitor.serious_violations() == []
        visitor.submit()
        visitor.until("document.querySelector('#stage .status')")
    spec = service.requests[0].spec
    assert (spec.translate_to, spec.review, spec.audio, "loop" in spec.model_fields_set) == ("deu", True, None, False)


def test_many_avatars_do_not_use_up_the_connections(
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


def test_file_of_the_wrong_type_is_refused_by_the_page(browser: Any, url: str) -> None:
    visitor = Visitor(browser, url)
    sound = {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": b"PNG"}
    for place, file, words in (
        ("#face", sound, "a.wav is an audio file. Choose a video or a portrait."),
        ("#speech", picture, "a.png is a picture. Choose an audio file, or a video with sound."),
        (
            "#face",
            sound | {"name": "a.txt", "mimeType": "text/plain"},
            "a.txt is not an audio, video or image file.",
        ),
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


def test_live_with_uploaded_face_creates_an_unkept_avatar(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = "face"
    live = GreyAvatars(service.table)
    with serving(service, live=live) as url:
        visitor = Visitor(browser, url)
        visitor.page.click("#live summary")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        assert visitor.page.is_disabled("#live-start") and not visitor.page.is_visible("#live-motion")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.fill("#live-motion", "0.3")
        visitor.picture("live-own-face")
        assert visitor.serious_violations() == []
        assert (
            visitor.page.evaluate("getComputedStyle(document.querySelector('#live-written button')).borderTopColor")
            != "rgba(0, 0, 0, 0)"
        )
        for _ in range(2):
            _begin_live(visitor)
            assert visitor.text("#live-status") == "Connected", "the microphone is off"
            visitor.page.click("#live-talk")
            visitor.until("document.querySelector('#live-mute')")
            assert visitor.text("#live-status") in ("Listening", "Speaking")
            visitor.page.click("#live-stop")
            visitor.until("document.querySelector('#live').dataset.state === 'off'")
        assert {request.behaviours[-1].behaviour.motion for request in live.requests} == {0.3}
        assert len(service.asked) == 1, "it is sent once"
        (avatar,) = service.table.list_avatars(pinned_only=False)
        assert not avatar.pinned
        with live_socket(url, avatar.id):
            visitor.page.click("#live-start")
            assert "may be free in" in visitor.until("document.querySelector('#live-error').textContent")
        assert visitor.errors == []


def test_live_card_shows_loading_avatars_and_retries(browser: Any, tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    with serving(service, live=GreyAvatars(service.table)) as url:
        visitor = Visitor(browser, url)
        visitor.until("document.querySelector('#engine').value")
        held: list[Any] = []
        visitor.page.route("**/v1/avatars", lambda route: held.append(route))
        visitor.page.click("#live summary")
        assert visitor.until("document.querySelector('#live-who').selectedOptions[0]?.text") == "Loading…"
        assert visitor.page.is_disabled("#live-start")
        for _ in range(3000):
            if held:
                break
            visitor.page.wait_for_timeout(20)
        held[0].abort()
        visitor.until("document.querySelector('#live-error').textContent")
        assert "could not be loaded" in visitor.text("#live-who option:checked")
        visitor.picture("live-no-avatars")
        visitor.page.unroute("**/v1/avatars")
        visitor.page.click("#live-retry")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        assert visitor.page.query_selector("#live-retry") is None
        assert not visitor.page.is_visible("#live-error")


def test_live_card_shows_the_error_of_a_faceless_upload(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = FaceNotFoundError("portrait.jpg: expected a face, found none.")
    with serving(service, live=GreyAvatars(service.table)) as url:
        visitor = Visitor(browser, url)
        visitor.page.click("#live summary")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.click("#live-start")
        assert visitor.until("document.querySelector('#live-error').textContent").startswith(
            "portrait.jpg: No face was found"
        )
        visitor.until("document.querySelector('#live').dataset.state === 'off'")
        service.looked_at = None  # and now it is never done with it
        visitor.page.click("#live-face button.quiet")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.click("#live-start")
        visitor.until("document.querySelector('#live-status').textContent === 'Analysing the face'")
        visitor.page.click("#live-stop")
        visitor.until("document.querySelector('#live').dataset.state === 'off'")
        assert visitor.errors == []


def _submitted(visitor: Visitor, service: MemoryService, folder: Path) -> str:
    """The ID of a job that was sent by the form."""
    speech = folder / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
    visitor.choose(speech, _picture(folder))
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')")
    return service.requests[-1].job_id


def test_job_is_shown_after_reload_and_in_a_second_tab(
    browser: Any, url: str, service: MemoryService, tmp_path: Path
) -> None:
    visitor = Visitor(browser, url)
    job_id = _submitted(visitor, service, tmp_path)
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


def test_cancelled_job_can_be_retried(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    visitor = Visitor(browser, url)
    job_id = _submitted(visitor, service, tmp_path)
    visitor.page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    visitor.page.click("#stage button:text-is('Try again')")
    visitor.until_status("queued")
    again = service.requests[-1]
    assert again.job_id != job_id and again.audio.sha256 == service.requests[0].audio.sha256
    visitor.page.click("#stage >> text=Cancel")
    visitor.until_status("cancelled")
    source = on_disk(service.files, source_key(service.table.get_job(again.job_id).avatar_key))
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    on_disk(service.files, job_file_key(again.job_id)).unlink()
    visitor.page.reload()  # the files are not known any more, but the face is kept with the job
    visitor.until_status("cancelled")
    visitor.page.click("#stage button:text-is('Try again')")
    assert "no longer has the speech" in visitor.until("document.querySelector('#composer-error').textContent")
    visitor.until("document.querySelector('#face .chosen') !== null")
    assert len(service.requests) == 2


_SUMMARY = ("id", "status", "progress", "created_at", "error", "links", "inputs")


def _summaries(route: Any) -> None:
    """Answer with the least that a list of jobs tells."""
    page = route.fetch().json()
    route.fulfill(json={**page, "jobs": [{name: job[name] for name in _SUMMARY} for job in page["jobs"]]})


def test_failed_job_among_200_is_found_and_retried(
    browser: Any, url: str, service: MemoryService, sample_portrait: Path
) -> None:
    visitor = Visitor(browser, url)
    page = visitor.page
    page.set_input_files("#face input[type=file]", sample_portrait)
    page.set_input_files(
        "#speech input[type=file]", {"name": "speech.wav", "mimeType": "audio/wav", "buffer": b"RIFF" + bytes(2000)}
    )
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
        service.table.insert_job(
            first.model_copy(update={"id": job_id, "status": JobStatus.SUCCEEDED, "created_at": utc_now()})
        )
    page.route("**/v1/jobs?*", _summaries)
    page.route("**/thumbnail", lambda route: route.fulfill(path=sample_portrait))
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
    assert "No face was found that can be used." in visitor.text("#jobs li:last-child")
    page.keyboard.press("Enter")
    visitor.until_status("failed")
    assert page.evaluate("document.activeElement.id") == "stage-title"
    assert visitor.text("#stage [role=alert]").startswith("No face was found that can be used. Use a photo")
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


def test_errors_use_the_language_of_the_page(browser: Any, url: str, service: MemoryService, tmp_path: Path) -> None:
    visitor = Visitor(browser, url, locale="zh-CN")
    job_id = _submitted(visitor, service, tmp_path)
    service.fail(job_id, MediaError("speech.wav: Invalid data found when processing input"))
    visitor.until_status("failed")
    alert_text = visitor.text("#stage [role=alert]")
    assert alert_text.startswith("speech.wav：无法读取该文件") and "Invalid" not in alert_text
    visitor.page.click("#language")
    alert_text = visitor.text("#stage [role=alert]")
    assert alert_text.startswith("speech.wav: This file cannot be read.") and "Invalid" not in alert_text


def _codes(kind: type[LipwrightError]) -> set[str]:
    return {kind.code}.union(*(_codes(child) for child in kind.__subclasses__() if child.__module__ == "errors"))


def test_every_error_has_advice_in_every_language(browser: Any, url: str) -> None:
    texts = Visitor(browser, url).page.evaluate(
        "import(new URL('strings.js', document.querySelector('script[type=module]').src)).then((m) => m.TEXTS)"
    )
    assert _codes(LipwrightError) <= texts["advice"].keys()
    assert not any(chinese.isascii() for _, chinese in texts["advice"].values())


_INTERRUPTED = """async ([playing, reached]) => {
    const { LiveSession } = await import(new URL("live_session.js", document.querySelector("script[type=module]").src));
    let end = 1.2;
    const video = { paused: false, currentTime: playing };
    const buffered = { length: 1, start: () => 0, end: () => end };
    const link = Object.assign(Object.create(LiveSession.prototype), {
        video, buffer: { buffered }, onEvent: () => {}, isSpeaking: true, cutAt: null,
    });
    link.receive({ type: "agent.speak_interrupted", at_seconds: 1.2 });
    link.keepUp();
    const before = video.currentTime;
    end = reached;
    link.keepUp();
    return [before, video.currentTime];
}"""


@pytest.mark.parametrize(
    ("playing", "reached", "jumps_to"),
    [(1.0, 1.4, 1.25), (1.0, 1.24, 1.0), (1.3, 1.4, 1.3)],
    ids=["the mouth is shut there", "no shut mouth has come yet", "it is shut already"],
)
def test_interrupt_makes_the_page_seek_to_a_shut_mouth(
    browser: Any, url: str, playing: float, reached: float, jumps_to: float
) -> None:
    """`playing` is shown when the speech is cut at 1.2 s, where the video ends until it has come to `reached`."""
    visitor = Visitor(browser, url)
    before, after = visitor.page.evaluate(_INTERRUPTED, [playing, reached])
    assert before == playing, "there is nothing to jump to"
    assert after == pytest.approx(jumps_to)
