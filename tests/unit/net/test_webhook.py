"""One webhook: signed by the specification, guarded like a fetch, and honest about whether it arrived."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

import pytest

from config import NetworkConfig
from errors import UrlFetchError, UrlRefusedError
from net.webhook import _sign, deliver, retry_delay_s
from tests.unit.net.web import answer, canary, serving

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PAYLOAD = json.dumps({"type": "job.succeeded", "name": "лицо"}, ensure_ascii=False).encode()
LOOPBACK = NetworkConfig(allowed_networks=("127.0.0.1/32",), connect_timeout_s=30, stall_timeout_s=30)
IMPATIENT = LOOPBACK.model_copy(update={"connect_timeout_s": 0.5, "stall_timeout_s": 0.5})


def test_deliver_signs_the_payload() -> None:
    with serving(lambda path, send: send(answer(b"x" * 100_000, "204 No Content"))) as web:
        asyncio.run(deliver(web.url("/hook?a=b"), SECRET, "evt_1", PAYLOAD, LOOPBACK))
    head, _, body = web.requests[0].partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    assert (request, body, headers["content-type"]) == ("POST /hook?a=b HTTP/1.1", PAYLOAD, "application/json")
    assert headers["webhook-id"] == "evt_1"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = b"evt_1." + headers["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_signed_matches_the_published_example() -> None:
    """The vector of the reference libraries' own tests."""
    now = datetime.fromtimestamp(1614265330, UTC)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = dict(_sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', now))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "400 Bad", "404 Not Found", "429 Slow", "500 Oops"])
def test_deliver_other_status_than_2xx_is_an_error(status: str) -> None:
    with canary() as bird:
        moved = answer(b"", status, f"Location: {bird.url('/')}")
        with serving(lambda path, send: send(moved)) as web, pytest.raises(UrlFetchError, match=f"found {status[:3]}"):
            asyncio.run(deliver(web.url("/"), SECRET, "evt_1", PAYLOAD, LOOPBACK))


def test_deliver_410_or_private_receiver_is_refused() -> None:
    with serving(lambda path, send: send(answer(b"", "410 Gone"))) as web, pytest.raises(UrlRefusedError):
        asyncio.run(deliver(web.url("/"), SECRET, "evt_1", PAYLOAD, LOOPBACK))
    with canary() as bird, pytest.raises(UrlRefusedError):
        asyncio.run(deliver(bird.url("/"), SECRET, "evt_1", PAYLOAD, NetworkConfig()))


def test_deliver_silent_receiver_times_out() -> None:
    with serving(lambda path, send: time.sleep(60)) as web:
        began = time.monotonic()
        with pytest.raises(UrlFetchError, match="too long"):
            asyncio.run(deliver(web.url("/"), SECRET, "evt_1", PAYLOAD, IMPATIENT))
        assert time.monotonic() - began < 30


def test_retry_delay_s_spreads_over_a_day() -> None:
    delays = [retry_delay_s(number) for number in range(1, NetworkConfig().max_callback_attempts)]
    assert delays == sorted(delays)
    assert 5 <= delays[0] <= 6
    assert 24 * 3600 < sum(delays) < 48 * 3600
    assert retry_delay_s(100) >= 24 * 3600
    assert len({retry_delay_s(1) for _ in range(20)}) > 1, "tries of several jobs must not come together"
