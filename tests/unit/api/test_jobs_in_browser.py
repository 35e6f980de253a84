"""Jobs on the page in a real browser: previews, retries and errors of jobs which do what the test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.errors import FaceNotFoundError, MediaError
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.record import JobStatus
from lipwright.storage.file_keys import job_file_key, source_key
from tests.browser import PICTURE, SPEECH, Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api_server import MemoryService
from tests.unit.on_disk import on_disk
from tests.unit.segmented_job import RenderingJob, SegmentedJob

VIDEO = "document.querySelector('#stage video')"


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


def _submitted(visitor: Visitor, service: MemoryService) -> str:
    """The ID of a job that was sent by the form."""
    visitor.choose(SPEECH, PICTURE)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')")
    return service.requests[-1].job_id


def test_refused_events_are_requested_again(visitor: Visitor, service: MemoryService) -> None:
    _submitted(visitor, service)
    visitor.page.route("**/events", lambda route: route.fulfill(status=503), times=1)
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('1 before')")
    for request in service.requests:
        service.finish(request.job_id)
    visitor.until_status("succeeded")
    visitor.until("document.querySelectorAll('#jobs li[data-status=succeeded]').length === 2")


def test_job_that_starts_is_next_in_line(visitor: Visitor, service: MemoryService) -> None:
    service.table.update_job(_submitted(visitor, service), status=JobStatus.RUNNING)
    visitor.until_status("running")
    assert visitor.text("#stage .status") == "Next in line"


def test_late_answer_about_a_job_leaves_another_open(visitor: Visitor, service: MemoryService) -> None:
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


def test_cancelled_job_can_be_retried(visitor: Visitor, service: MemoryService) -> None:
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


def test_failed_job_among_100_is_retried(browser: Any, url: str, service: MemoryService, sample_portrait: Path) -> None:
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
    ids = [new_id() for _ in range(99)]
    for job_id in ids:
        other = {"id": job_id, "status": JobStatus.SUCCEEDED, "created_at": utc_now()}
        service.table.insert_job(first.model_copy(update=other))
    small = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'  # 100 photographs take seconds to draw
    page.route("**/thumbnail", lambda route: route.fulfill(body=small, content_type="image/svg+xml"))
    page.goto(url)
    tiles = "document.querySelectorAll('#jobs li').length"
    for shown in (48, 96):
        visitor.until(f"{tiles} === {shown}")
        page.focus("#more")
        page.keyboard.press("Enter")
        visitor.until(f"document.activeElement.closest('#jobs li:nth-child({shown + 1})')")
    assert page.evaluate(tiles) == 100 and page.is_hidden("#more")
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


@pytest.mark.parametrize("width", [1280, 360])
def test_face_that_is_not_found_is_marked_in_the_picture(
    browser: Any, url: str, service: MemoryService, sample_portrait: Path, width: int
) -> None:
    visitor = Visitor(browser, url, viewport={"width": width, "height": 800}, has_touch=width < 500)
    page = visitor.page
    visitor.choose(SPEECH, sample_portrait)
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
