"""The page of a service with API keys, in a real browser: it asks once, and then everything is open to it."""

from __future__ import annotations

from pathlib import Path

from storage.local.api_keys import ApiKeys
from tests.browser import Visitor, chromium
from tests.unit.api_server import MemoryService, serving


def test_a_key_is_asked_for_once(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    service.outcome = "video"
    _, key = ApiKeys(tmp_path).add("a studio")
    speech = tmp_path / "speech.wav"
    speech.write_bytes(b"RIFF" + bytes(2000))
    with chromium() as browser, serving(service) as url:
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
        visitor.choose(speech, speech)
        visitor.submit()
        visitor.until_status("succeeded")
        assert service.requests[0].owner is not None
        visitor.until("document.querySelector('#stage video').currentSrc.endsWith('/video')")
        visitor.page.click("#sign-out")
        visitor.until("document.querySelector('#sign-in')?.open")
