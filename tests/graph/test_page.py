"""The page in a real browser on the real service: from two files to a video that plays while it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import Visitor, chromium

pytestmark = pytest.mark.slow

VIDEO = "document.querySelector('#stage video')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visitor(browser: Any, service_url: str) -> Iterator[Visitor]:
    visitor = Visitor(browser, service_url)
    visitor.until("document.querySelector('#speech input[type=file]')")  # made by the page's scripts
    yield visitor
    visitor.page.context.close()


def _job_ids(client: httpx.Client) -> list[str]:
    return [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]


def test_from_two_files_to_a_video(
    visitor: Visitor, client: httpx.Client, long_speech: Path, sample_video: Path
) -> None:
    page = visitor.page
    assert "Drop an audio file" in visitor.text("#speech")
    visitor.picture("empty")
    visitor.choose(long_speech, sample_video)
    visitor.picture("filled")
    visitor.submit()
    visitor.until("document.querySelector('#stage .status')?.textContent.includes('frame')")
    # It plays while it is made.
    at, running = visitor.until(
        f"{VIDEO}.currentTime > 0.3 && [{VIDEO}.currentTime, !document.querySelector('#stage progress').hidden]"
    )
    assert running, "the preview plays before the job has ended"
    assert page.evaluate(f"{VIDEO}.src").startswith("blob:")
    visitor.until(f"{VIDEO}.currentTime > {at} + 0.5")
    visitor.picture("playing")
    visitor.until_status("succeeded")
    assert "Ready" in visitor.text("#stage .status")
    assert visitor.text("#stage .report")
    # The whole result plays, too, after it was found again among all videos.
    page.click("#jobs li:first-child button")
    assert "/video" in visitor.until(f"{VIDEO}.currentSrc.endsWith('/video') && {VIDEO}.currentSrc")
    page.evaluate(f"{VIDEO}.muted = true, {VIDEO}.play()")
    visitor.until(f"{VIDEO}.currentTime > 0.3")
    visitor.until("document.querySelector('#jobs li img')?.naturalWidth > 0")
    assert visitor.until(f"Math.round({VIDEO}.duration)") == pytest.approx(8 * 4, abs=8)
    page.evaluate("window.scrollTo(0, 0)")
    visitor.picture("done")
    assert visitor.serious_violations() == []
    with page.expect_download() as download:
        page.click(".actions a[download]")
    assert Path(download.value.path()).stat().st_size > 10_000
    (job_id, *_) = _job_ids(client)
    page.click("#stage >> text=Delete")
    page.click("#confirm button[value=yes]")
    visitor.until("!document.querySelector('#stage video')")
    assert job_id not in _job_ids(client)
    assert visitor.errors == []


def test_a_saved_avatar_a_portrait_and_both_languages(
    visitor: Visitor, client: httpx.Client, short_speech: Path, portrait: Path
) -> None:
    page = visitor.page
    page.emulate_media(color_scheme="dark")
    page.click("#language")
    assert visitor.text("#submit") == "生成视频"
    visitor.choose(short_speech, portrait)
    page.check("#keep")
    visitor.submit()
    visitor.until_status("succeeded")
    assert page.locator('li:has(.close) button.face[aria-pressed="true"]').count() == 1
    visitor.until("document.querySelector('#stage .report')")
    visitor.picture("chinese-dark")
    assert visitor.serious_violations() == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visitor.picture("phone")
    page.click("#language")
    visitor.submit()  # with the avatar that was kept a moment ago
    visitor.until("document.querySelectorAll('#jobs li').length >= 2")
    visitor.until_status("succeeded")
    assert visitor.serious_violations() == []
    for avatar in client.get("/v1/avatars").json()["avatars"]:
        client.delete(f"/v1/avatars/{avatar['id']}")
    assert visitor.errors == []


def test_a_recording_is_as_good_as_a_file(visitor: Visitor, client: httpx.Client, portrait: Path) -> None:
    page = visitor.page
    page.set_input_files("#face input[type=file]", portrait)
    page.click("text=Record with the microphone")
    visitor.until("document.querySelector('.recorder [role=timer]')?.textContent.includes('0:02')")
    page.click("text=Stop recording")
    visitor.until("document.querySelector('#speech audio')")
    visitor.submit()
    visitor.until_status("succeeded")
    job = client.get(f"/v1/jobs/{_job_ids(client)[0]}").json()
    assert (job["inputs"]["audio"], job["inputs"]["source"]) == ("Recording.webm", portrait.name)
    assert 1 < job["report"]["output"]["audio_seconds"] < 20
