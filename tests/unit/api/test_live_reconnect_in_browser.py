"""The live card of the page when its connection breaks without a close frame, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config import LiveConfig
from tests.browser import Visitor
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api_server import MemoryService, serving
from tests.unit.clip_graphs import acting_graph
from tests.unit.lipwright_client.breaking_proxy import breaking_proxy

STATE = "document.querySelector('#live').dataset.state"
VOICES = {"is_available": True, "default": "beep", "voices": ["beep"], "max_chars": 100, "can_clone": False}


def test_live_card_reconnects_and_sends_text_again(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = "face"
    live = GreyAvatars(service.table)
    live.graph = acting_graph()
    live.admission = type(live.admission)(LiveConfig(max_sessions=4))
    with serving(service, live=live) as url, breaking_proxy(url) as proxy:
        visitor = Visitor(browser, proxy.url)
        sent: list[str] = []
        visitor.page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
        visitor.page.route("**/v1/voices", lambda route: route.fulfill(json=VOICES))
        visitor.page.click("#live summary")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.click("#live-start")
        visitor.until(f"{STATE} === 'idle' && document.querySelector('#live-video').currentTime > 1")
        first = visitor.page.evaluate("document.querySelector('#live-video').src")
        assert visitor.page.get_by_role("group", name="Actions").get_by_role("button").all_text_contents() == [
            "wave",
            "nod",
        ]
        visitor.page.fill("#live-text", "Hi [wawe]")
        visitor.page.click("#live-written button")
        visitor.until("document.querySelector('#live-error').textContent.includes(\"no action 'wawe'\")")
        assert visitor.page.input_value("#live-text") == "Hi [wawe]", "to be corrected"
        sent.clear()
        visitor.page.fill("#live-text", "Good day.")
        proxy.answers.clear()  # the page does not learn what has become of the text
        visitor.page.click("#live-written button")
        proxy.refuses = True
        proxy.cut()
        proxy.answers.set()
        visitor.until(f"{STATE} === 'reconnecting'")
        assert "Reconnecting" in visitor.text("#live-status")
        proxy.refuses = False
        visitor.until(f"{STATE} === 'idle'")
        visitor.until(f"document.querySelector('#live-video').src !== '{first}'")
        visitor.until("document.querySelector('#live-video').currentTime > 0.5")
        texts = [fields for fields in map(json.loads, filter(None, sent)) if fields["type"] == "agent.speak_text"]
        assert [fields["text"] for fields in texts] == ["Good day."] * 2
        assert len({fields["event_id"] for fields in texts}) == 1
        proxy.refuses = True
        proxy.cut()
        visitor.until(f"{STATE} === 'reconnecting'")
        visitor.page.click("#live-stop")
        visitor.until(f"{STATE} === 'off'")
