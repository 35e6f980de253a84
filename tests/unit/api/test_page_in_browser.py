"""The form of the page and `/docs` in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.config import SubtitlesConfig, TtsConfig
from lipwright.errors import FaceNotFoundError
from lipwright.jobs.model.base import utc_now
from lipwright.storage.local.api_keys import FileKeyRing
from tests.browser import ARE_ENDED, HELD_MEDIA, PICTURE, SPEECH, Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api_server import MemoryService

NO_SERVER = "http://127.0.0.1:1"
TRANSLATORS = SubtitlesConfig(transcription_url=NO_SERVER, translation_url=NO_SERVER)
CLIP = {"name": "wave.mp4", "mimeType": "video/mp4", "buffer": b"film"}
NAMES = "[...document.querySelectorAll('.clips .name')].map((name) => name.textContent).join()"


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
    visitor.page.set_viewport_size({"width": 360, "height": 740})  # the table is wider
    assert visitor.serious_violations() == []
    with visitor.page.expect_navigation():
        visitor.page.click("#sign-out")
    visitor.until("document.querySelector('#sign-in')?.open")


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


@pytest.mark.parametrize(
    ("path", "missing", "is_ready"),
    [
        ("/", "usage.js", "document.querySelector('#speech input[type=file]')"),
        ("/", "style.css", "document.querySelector('#speech input[type=file]')"),
        ("/live.html?avatar=a", "live_session.js", "document.documentElement.dataset.state === 'waiting'"),
    ],
)
def test_page_reloads_when_a_file_is_missing(browser: Any, url: str, path: str, missing: str, is_ready: str) -> None:
    page = (visitor := Visitor(browser, "about:blank")).page
    refused: list[Any] = []

    def refuse_once(route: Any) -> None:
        refused.append(route)
        route.fulfill(status=503) if len(refused) == 1 else route.continue_()

    page.clock.install(time=0)
    page.clock.pause_at(1000)  # the page does not load again before it has been looked at
    page.route(f"**/{missing}", refuse_once)
    page.goto(url + path)
    assert path != "/" or "could not be loaded" in visitor.text("#incomplete")
    with page.expect_navigation():
        page.clock.run_for(3000)
    visitor.until(is_ready)
    assert len(refused) == 2
    assert path != "/" or not page.is_visible("#incomplete")


def test_recording_ends_when_its_buttons_are_replaced(visitor: Visitor) -> None:
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


def test_click_on_picture_chooses_face(visitor: Visitor, service: MemoryService, sample_portrait: Path) -> None:
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


@pytest.mark.parametrize("api_settings", [{"tts": TtsConfig(url=NO_SERVER, voice="kim", max_chars=50)}])
def test_text_and_visible_mark_reach_the_job(visitor: Visitor, service: MemoryService, sample_portrait: Path) -> None:
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


@pytest.mark.parametrize("api_settings", [{"tts": TtsConfig(url=NO_SERVER, voice="kim"), "subtitles": TRANSLATORS}])
def test_translation_of_a_video_reaches_the_job(
    browser: Any, url: str, service: MemoryService, sample_portrait: Path, sample_video: Path
) -> None:
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


def test_file_of_the_wrong_type_is_refused_by_the_page(visitor: Visitor) -> None:
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
    rows = operation.locator("tr[data-property-name]")
    fields = rows.locator("input:not([type=checkbox]):not([type=file]), select, textarea")
    filled = set(fields.evaluate_all("(fields) => fields.map(({ value }) => value)")) - {"", "{}"}
    assert rows.count() > 40 and fields.count() > 30 and filled == set()
    with visitor.page.expect_response("**/v1/jobs*") as answer:
        operation.locator("button.execute").click()
    assert answer.value.status == 202, answer.value.text()
    assert len(service.requests) == 1 and visitor.errors == []
