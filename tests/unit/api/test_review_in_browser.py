"""Jobs in review on the page: a table of turns beside the film, edited by keyboard and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.config import TtsConfig
from lipwright.errors import OptionError, VoiceError
from lipwright.jobs.messages import PeopleScan
from lipwright.jobs.model.edits import Revision, TurnEdit
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.record import JobRecord, JobStage, JobStatus
from lipwright.jobs.speaking import with_fits
from lipwright.storage.file_keys import source_key
from models.people.report import PeopleReport, SeenPerson, TimeRange
from tests.browser import Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api_server import MemoryService
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import tone

SECONDS = 4.0
"""Length of the sample video."""
TURNS = [
    {"face": "person:0", "speaker": "Anna", "start": 0, "end": 1.5, "text": "Good morning."}
    | {"original_text": "早上好。"},
    {"face": "person:1", "start": 1.5, "end": 2, "text": "A text that is much too long for half a second."},
    {"face": "person:1", "start": 2, "end": 3.5, "text": "Good bye, and thank you."},
]
WORDS = {  # by language: the status, what is cut, the button, and the share that is spoken
    "en-US": ("Waiting for review", "s cut", "(1 cut)", "Speaking 12 of 60"),
    "zh-CN": ("等待检查", "截断", "1 段被截断", "正在朗读 12 / 60"),
}
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
TEXTS = "[...document.querySelectorAll('.review-turn textarea')].map((text) => text.value)"
FILM = "document.querySelector('.film video')"
# A busy machine looks at the film too seldom to see it play.
RECORD = f"""() => {{
  window.played = [];
  const film = {FILM}, row = document.querySelector(".review-turn:nth-child(3)");
  for (const kind of ["timeupdate", "pause"]) film.addEventListener(kind, () => played.push(
    {{ kind, seconds: film.currentTime, isMuted: film.muted, isNow: row.classList.contains("now") }}));
}}"""
FOCUSED = """[
    document.activeElement.dataset.part,
    [...document.querySelectorAll(".review-turn")].indexOf(document.activeElement.closest("li")),
]"""


Opened = Callable[..., tuple[Visitor, JobRecord]]


class DraftService(MemoryService):
    """Speaks 20 characters per second."""

    failure: Exception | None = None  # of the next edit

    def spoken_text(self, text: str) -> tuple[bytes, float]:
        return tone(len(text) / 20), len(text) / 20

    def fitted(self, plan: JobPlan) -> JobPlan:
        return with_fits(plan, SECONDS)

    async def edit_turns(self, job_id: str, edit: TurnEdit, owner: str | None) -> JobRecord:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return await super().edit_turns(job_id, edit, owner)

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        job = await super().revise_job(job_id, new_id, revision, owner)
        return self.review(job.id) if revision.review else job

    def texts(self) -> list[str | None]:
        """Texts of the only job."""
        return [turn.text for turn in self.table.get_job(self.requests[0].job_id).plan.turns]


@pytest.fixture
def service(tmp_path: Path) -> DraftService:
    return DraftService(tmp_path)


def submit(service: DraftService, url: str, video: Path, turns: list[dict[str, Any]]) -> JobRecord:
    """Submit a job whose texts are reviewed."""
    form = {"turns": json.dumps(turns), "review": "true"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        answer = http.post("/v1/jobs", data=form, files={"video": ("film.mp4", video.read_bytes())})
    assert answer.status_code == 202, answer.text
    job = service.table.get_job(answer.json()["id"])
    on_disk(service.files, source_key(job.avatar_key)).write_bytes(video.read_bytes())
    return job


@pytest.fixture
def opened(browser: Any, service: DraftService, url: str, sample_video: Path) -> Opened:
    """Opens the page with a job in review."""

    def opened(locale: str = "en-US", size: str = "desktop") -> tuple[Visitor, JobRecord]:
        job = service.review(submit(service, url, sample_video, TURNS).id)
        width, height = SIZES[size]
        visitor = Visitor(browser, f"{url}/#job={job.id}", locale=locale, viewport={"width": width, "height": height})
        visitor.until(f"{TEXTS}.length === 3")
        return visitor, job

    return opened


@pytest.mark.parametrize(("locale", "size"), [*zip(WORDS, SIZES, strict=True)])
def test_draft_edited_by_keyboard_is_approved(opened: Opened, service: DraftService, locale: str, size: str) -> None:
    status, cut, approve, _ = WORDS[locale]
    visitor, job = opened(locale, size)
    page = visitor.page
    assert status in visitor.text("#stage .status") and status in visitor.text("#jobs li")
    cut_turns = "[...document.querySelectorAll('.review-turn')].map((row) => row.classList.contains('cut'))"
    assert page.evaluate(cut_turns) == [False, True, False]
    assert cut in visitor.text(".review-turn:nth-child(2) .badge.bad") and approve in visitor.text(".side .main")
    assert "half a second" in visitor.text(".review-turn:nth-child(2) .note")
    assert visitor.serious_violations() == []
    for language in ("other", locale):
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        visitor.picture(f"review-{language}-{size}")
        page.click("#language")
    page.focus(".review-turn:nth-child(1) .play")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(FOCUSED) == ["play", 1]
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["text", 1]
    page.keyboard.press("Control+a")
    page.keyboard.type("Short.")
    page.keyboard.press("Control+Enter")
    visitor.until("document.querySelectorAll('.review-turn.cut').length === 0")
    assert page.evaluate(FOCUSED) == ["text", 1], "the focus is kept"
    assert service.texts()[1] == "Short." and approve not in visitor.text(".side .main")
    page.keyboard.press("ArrowDown")  # at the end of the text
    assert page.evaluate(FOCUSED) == ["text", 2]
    page.keyboard.type(" Soon.")
    page.focus(".side .main")  # leaving the text saves it
    page.keyboard.press("Enter")
    visitor.until_status("queued")
    assert service.texts() == ["Good morning.", "Short.", "Good bye, and thank you. Soon."]
    assert page.locator(".review").count() == 0 and page.is_visible("#stage >> text=/^(Cancel|取消)$/")
    assert page.evaluate("document.activeElement.id") == "stage-title"
    assert visitor.errors == []
    service.finish(job.id)
    visitor.until_status("succeeded")


def test_play_with_film_ends_with_the_speech(opened: Opened, service: DraftService) -> None:
    visitor, _ = opened()
    page = visitor.page
    visitor.until(f"{FILM}?.readyState > 0")
    page.evaluate(RECORD)
    page.focus(".review-turn:nth-child(3) .play")
    page.keyboard.press("Space")
    visitor.until("played.some((each) => each.kind === 'pause')")
    played = page.evaluate("played")
    assert all(each["isMuted"] for each in played) and any(each["isNow"] for each in played if each["seconds"] > 2.1)
    assert 2.1 < played[-1]["seconds"] < page.evaluate(f"{FILM}.duration") - 0.1, "it ends with the speech"
    assert visitor.text(".review-turn:nth-child(3) .play") == "▶"


def test_play_while_another_plays_switches(opened: Opened, service: DraftService) -> None:
    visitor, _ = opened()
    page = visitor.page
    playing = "[...document.querySelectorAll('.play')].map((button) => button.textContent).join('')"
    visitor.until(f"{FILM}?.readyState > 0")
    page.click(".review-turn:nth-child(2) .play")
    visitor.until(f"{FILM}.currentTime > 1.6")
    switch = f"(button) => {{ button.click(); return {playing}; }}"
    assert page.eval_on_selector(".review-turn:nth-child(3) .play", switch) == "▶▶■"
    visitor.until(f"{FILM}.currentTime > 2.4")
    stop = "(button) => { if (button.textContent === '▶') button.click(); button.click(); return button.textContent; }"
    assert page.eval_on_selector(".review-turn:nth-child(3) .play", stop) == "▶"
    visitor.until(f"{FILM}.paused")


def test_patch_that_fails_keeps_what_was_typed(opened: Opened, service: DraftService) -> None:
    visitor, _ = opened()
    page = visitor.page
    note = ".review-turn:nth-child(1) .note"
    for failure, words in (
        (VoiceError("The voice failed."), "voice"),
        (OptionError("turns[0]: overlaps."), "overlaps"),
    ):
        service.failure = failure
        page.fill(".review-turn:nth-child(1) textarea", "Hello there.")
        page.keyboard.press("Control+Enter")
        assert words in visitor.until(f"document.querySelector('{note}.bad')?.textContent")
        assert page.evaluate(TEXTS)[0] == "Hello there." and service.texts()[0] == "Good morning."
        page.keyboard.press("Escape")
        assert page.evaluate(TEXTS)[0] == "Good morning." and page.is_hidden(note)
    page.fill(".review-turn:nth-child(1) textarea", " ")
    page.click(".side .main")
    visitor.until("!document.querySelector('.side .notice').hidden")
    assert "Enter a text." in visitor.text(note) and page.evaluate(FOCUSED) == ["text", 0]
    page.keyboard.type("Hello again.")
    page.keyboard.press("Control+Enter")
    visitor.until(f"document.querySelector('{note}').textContent === ''")
    assert service.texts()[0] == "Hello again."


def test_patch_after_foreign_change_loads_turns(opened: Opened, service: DraftService, url: str) -> None:
    visitor, job = opened()
    page = visitor.page
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        assert http.patch(f"/v1/jobs/{job.id}/turns/2", json={"text": "Changed."}).status_code == 200
    page.fill(".review-turn:nth-child(1) textarea", "Mine.")
    page.keyboard.press("Control+Enter")
    visitor.until(f"{TEXTS}[2] === 'Changed.'")
    assert "Somebody else" in visitor.text(".review-turn:nth-child(1) .note")
    assert page.evaluate(TEXTS)[0] == "Mine." and service.texts()[0] == "Good morning."
    page.keyboard.press("Control+Enter")
    visitor.until("document.querySelector('.review-turn:nth-child(1) .note').textContent === ''")
    assert service.texts()[0] == "Mine."


def test_split_add_and_remove_change_the_turns(opened: Opened, service: DraftService) -> None:
    visitor, job = opened()
    page = visitor.page
    page.focus(".review-turn:nth-child(3) textarea")
    page.keyboard.press("Control+Home")
    for _ in range(len("Good bye,")):
        page.keyboard.press("ArrowRight")
    page.click(".review-turn:nth-child(3) [data-part=split]")
    visitor.until(f"{TEXTS}.length === 4")
    assert service.texts()[2:] == ["Good bye,", "and thank you."]
    first, second = service.table.get_job(job.id).plan.turns[2:]
    assert (first.start, first.end, second.end) == (2, second.start, 3.5) and 2.5 < second.start < 2.8
    page.click(".review-turn:nth-child(4) [data-part=add]")
    assert page.evaluate(FOCUSED) == ["text", 4]
    page.keyboard.type("The end.")
    page.keyboard.press("Control+Enter")
    visitor.until("document.querySelector('.review-turn:nth-child(5)').getAttribute('aria-label').startsWith('Turn 5')")
    added = service.table.get_job(job.id).plan.turns[4]
    assert (added.text, added.start, added.face) == ("The end.", 3.5, "person:1")
    page.focus(".review-turn:nth-child(1) [data-part=remove]")
    page.keyboard.press("Enter")
    page.click("#confirm button.danger")
    visitor.until(f"{TEXTS}.length === 4")
    visitor.until(f"({FOCUSED}).join() === 'remove,0'")
    assert service.texts()[0] == TURNS[1]["text"]


def test_speaking_counts_texts(browser: Any, service: DraftService, url: str, sample_video: Path) -> None:
    job = submit(service, url, sample_video, TURNS)
    visitor = Visitor(browser, f"{url}/#job={job.id}")
    service.table.update_job(
        job.id, status=JobStatus.RUNNING, stage=JobStage.SPEAKING, num_cues=60, num_cues_done=12, progress=0.02
    )
    for _, _, _, count in WORDS.values():
        visitor.until(f"document.querySelector('#stage .status')?.textContent === {json.dumps(count)}")
        visitor.page.click("#language")
    service.review(job.id)
    visitor.until(f"{TEXTS}.length === 3")
    assert WORDS["en-US"][0] in visitor.text("#stage .status") and visitor.page.is_hidden("#stage progress")


def test_new_turn_typed_on_while_sent_is_added_once(opened: Opened, service: DraftService) -> None:
    visitor, _ = opened()
    page = visitor.page
    held: list[Any] = []
    page.route("**/turns", lambda route: held.append(route))
    page.click(".review-turn:nth-child(3) [data-part=add]")
    page.keyboard.type("One")
    page.keyboard.press("Control+Enter")
    page.keyboard.type(" two")
    page.keyboard.press("Shift+Tab")
    wait_until_held(visitor, held)
    assert visitor.text(".review-turn:nth-child(4) .note") == "Speaking…"
    held[0].continue_()
    visitor.until("document.querySelectorAll('.review-turn [data-part=add]:not([hidden])').length === 4")
    visitor.until("document.querySelectorAll('.review-turn[aria-busy=true]').length === 0")
    assert len(held) == 1 and service.texts()[3:] == ["One two"]


@pytest.mark.parametrize("api_settings", [{"tts": TtsConfig(url="http://127.0.0.1:9", voice="kim")}])
def test_review_box_with_texts_sends_review(visitor: Visitor, service: DraftService, sample_video: Path) -> None:
    people = (SeenPerson(number=0, seen=(TimeRange(start=0, end=4),), face_pixels=120, frontal_share=1),)
    service.scans = [PeopleScan(1, PeopleReport(people=people))]
    page = visitor.page
    visitor.until("document.querySelector('#engine').value")
    page.set_input_files("#face input[type=file]", sample_video)
    page.check("#several")
    visitor.until("document.querySelectorAll('.people:not(.searching) .track').length === 1")
    assert page.is_hidden("#review"), "there is no text yet"
    page.click(".person [data-text=writeText]")
    page.keyboard.type("Good morning.")
    page.check("#review")
    visitor.picture("review-checkbox")
    visitor.submit()
    visitor.until_status("queued")
    assert service.requests[0].spec.review


def test_change_texts_of_finished_job_opens_its_revision(opened: Opened, service: DraftService) -> None:
    visitor, job = opened("zh-CN", "phone")
    page = visitor.page
    page.click(".side .main")
    visitor.until_status("queued")
    service.finish(job.id)
    visitor.until_status("succeeded")
    page.focus("#stage .actions >> text=修改台词")
    page.keyboard.press("Enter")
    visitor.until_status("review")
    visitor.until(f"{TEXTS}.length === 3")
    revision = next(each for each in service.table.unfinished_jobs() if each.id != job.id)
    assert revision.revision_of == job.id and page.url.endswith(revision.id)
