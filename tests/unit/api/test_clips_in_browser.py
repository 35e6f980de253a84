"""The clips of an avatar on the page, in a real browser."""

from __future__ import annotations

from typing import Any

import httpx

from errors import FaceNotFoundError
from tests.browser import Visitor
from tests.unit.api_server import MemoryService

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
