"""Fetching from servers that behave, and from servers that do not: redirects, drips, lies, bombs, rebinding."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
from standardwebhooks.webhooks import Webhook

from lipwright.config import NetworkConfig
from lipwright.errors import ConfigError, MediaLimitError, StageTimeoutError, UrlFetchError, UrlRefusedError
from lipwright.net.fetch import fetch
from lipwright.net.ssrf_guard import Resolver, SsrfGuard, resolve_host
from lipwright.net.target import Target, shown
from lipwright.net.webhook import MAX_ATTEMPTS, deliver, retry_delay_s
from tests.unit.net.web import Send, Web, answer, canary, serving, tls_pair

BODY = bytes(range(256)) * 8000
LOOPBACK = NetworkConfig(allowed_networks=("127.0.0.1/32",), connect_timeout_s=30, stall_timeout_s=30)
IMPATIENT = LOOPBACK.model_copy(update={"connect_timeout_s": 0.5, "stall_timeout_s": 0.5, "min_bytes_per_s": 1_000_000})
MAX_BYTES = 4_000_000
DECLARED = f"Content-Length: {MAX_BYTES + 1}\r\n"


class Memory(bytearray):
    def write(self, piece: bytes) -> None:
        self.extend(piece)


def _fetch(url: str, guard: SsrfGuard | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    writer = Memory()
    num_bytes = asyncio.run(fetch(url, writer, max_bytes, guard or SsrfGuard(LOOPBACK)))
    assert num_bytes == len(writer)
    return bytes(writer)


def _answering(body: bytes, status: str = "200 OK", *headers: str, **length: int) -> AbstractContextManager[Web]:
    return serving(lambda path, send: send(answer(body, status, *headers, **length)))


def _resolving(*addresses: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def test_fetch_returns_the_whole_file() -> None:
    with _answering(BODY) as web:
        assert _fetch(web.url("/v.mp4?sig=a%2Fb")) == BODY
    (request,) = web.requests
    head = request.decode().lower()
    assert head.startswith("get /v.mp4?sig=a%2fb http/1.1\r\n")
    assert f"host: 127.0.0.1:{web.port}\r\n" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head


@pytest.mark.parametrize("rest", ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "\r\nhello"])
def test_fetch_chunked_or_unsized_response(rest: str) -> None:
    with serving(lambda path, send: send(f"HTTP/1.1 200 OK\r\n{rest}".encode())) as web:
        assert _fetch(web.url("/")) == b"hello"


@pytest.mark.parametrize("location", ["/end", "//127.0.0.1:{port}/end", "http://127.0.0.1:{port}/end"])
def test_fetch_follows_redirects_without_cookies(location: str) -> None:
    def script(path: str, send: Send) -> None:
        to = location.format(port=web.port)
        send(answer(b"hello") if path == "/end" else answer(b"", "302 Found", f"Location: {to}", "Set-Cookie: a=b"))

    with serving(script) as web:
        assert _fetch(web.url("/start")) == b"hello"
    assert b"cookie" not in web.requests[1].lower()


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.2:{port}/", "//127.0.0.2:{port}/", "http://[::1]:{port}/", "http://0x7f000002:{port}/"),
        *("http://169.254.169.254/latest/meta-data/", "ftp://127.0.0.1:{port}/", "file:///etc/passwd"),
        *("http://user:pass@127.0.0.1:{port}/", "http://127.0.0.1:22/", "http://[::1"),
    ],
)
def test_fetch_redirect_to_a_forbidden_url_is_refused(location: str) -> None:
    # Only the address of the first server is allowed; the canary is at another one.
    with canary("127.0.0.2") as bird:
        to = location.format(port=bird.port)
        with _answering(b"", "302 Found", f"Location: {to}") as web, pytest.raises(UrlRefusedError):
            _fetch(web.url("/"))
    assert web.num_connections == 1


def test_fetch_endless_redirects_are_refused() -> None:
    with _answering(b"", "307 Away", "Location: /") as web, pytest.raises(UrlFetchError, match="at most 5 redirects"):
        _fetch(web.url("/"))
    assert web.num_connections == 6


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "404 Not Found", "500 Oops", "304 Same"])
def test_fetch_other_status_than_200_is_an_error(status: str) -> None:
    with _answering(b"", status) as web, pytest.raises(UrlFetchError, match=f"200, found {status[:3]}") as failed:
        _fetch(web.url("/v.mp4?token=secret"))
    assert f"{web.url('/v.mp4')}:" in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(("head", "num_found", "max_read"), [(DECLARED, MAX_BYTES + 1, 0), ("", "more", MAX_BYTES)])
def test_fetch_over_the_limit_closes_the_connection(head: str, num_found: object, max_read: int) -> None:
    def script(path: str, send: Send) -> None:
        send(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        while True:
            send(bytes(1 << 16))

    writer = Memory()
    with serving(script) as web:
        with pytest.raises(MediaLimitError, match=f"bytes, found {num_found}"):
            asyncio.run(fetch(web.url("/"), writer, MAX_BYTES, SsrfGuard(LOOPBACK)))
        assert web.closed.wait(5), "the connection stayed open"
    assert len(writer) <= max_read


@pytest.mark.parametrize(
    "payload",
    [
        answer(b"short", length=100),
        answer(b"x", "200 OK", "Content-Length: 7"),
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\nhello",
        b"SSH-2.0-OpenSSH_9.6 secret of the inside\r\n",
        b"root:x:0:0:secret of the inside\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 200_000,
        answer(gzip.compress(bytes(3_000_000)), "200 OK", "Content-Encoding: gzip"),
        b"",
    ],
)
def test_fetch_malformed_response_is_an_error(payload: bytes) -> None:
    with serving(lambda path, send: send(payload)) as web, pytest.raises(UrlFetchError) as failed:
        _fetch(web.url("/"))
    assert "secret" not in str(failed.value)


def test_fetch_silent_or_slow_server_times_out() -> None:
    dripped = {"/silence": b"", "/drip": b"x", "/headers": b"HTTP/1.1 100 Continue\r\n\r\n"}

    def script(path: str, send: Send) -> None:
        if path == "/drip":
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(600):
            send(dripped[path])
            time.sleep(0.1)

    with serving(script) as web:
        for path in dripped:
            with pytest.raises(UrlFetchError, match="too long"):  # and not cut off, as after the minute
                _fetch(web.url(path), SsrfGuard(IMPATIENT))


class ForwardLoop(asyncio.SelectorEventLoop):
    """Its clock is put forward by hand."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def test_fetch_steady_download_may_outlast_the_timeouts() -> None:
    network = LOOPBACK.model_copy(update={"min_bytes_per_s": 10_000})
    pause_s, num_pieces, writer = 25.0, 4, Memory()
    assert pause_s < network.stall_timeout_s
    assert (num_pieces - 1) * pause_s > network.connect_timeout_s + network.stall_timeout_s

    def script(path: str, send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (num_pieces << 20))
        for number in range(1, num_pieces + 1):
            send(bytes(1 << 20))
            deadline = time.monotonic() + 60
            while len(writer) < number << 20 and time.monotonic() < deadline:
                time.sleep(0.005)
            loop.ahead_s += pause_s

    with serving(script) as web, asyncio.Runner(loop_factory=ForwardLoop) as runner:
        loop = cast(ForwardLoop, runner.get_loop())
        num_bytes = runner.run(fetch(web.url("/"), writer, num_pieces << 20, SsrfGuard(network)))
        assert num_bytes == len(writer) == num_pieces << 20


def test_fetch_tries_the_next_address() -> None:
    network = LOOPBACK.model_copy(update={"allowed_networks": ("127.0.0.0/8",)})
    guard = SsrfGuard(network, _resolving("127.0.0.9", "127.0.0.1"))
    with _answering(b"hello") as web:
        assert _fetch(web.url("/", "two.example"), guard) == b"hello"
    with pytest.raises(UrlFetchError, match="connection failed"):
        _fetch(web.url("/", "two.example"), guard)


def test_fetch_rebound_name_uses_the_checked_address() -> None:
    """The name is public when first asked and private ever after: it is asked once, and that answer is used."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with _answering(b"hello") as web:
        assert _fetch(web.url("/", "rebind.example"), SsrfGuard(LOOPBACK, rebinding)) == b"hello"
        assert asked == ["rebind.example"]
        assert f"rebind.example:{web.port}".encode() in web.requests[0]
        with pytest.raises(UrlRefusedError):  # the second fetch resolves the name again, and the new address is refused
            _fetch(web.url("/", "rebind.example"), SsrfGuard(LOOPBACK, rebinding))
        assert web.num_connections == 1


def test_fetch_hanging_lookup_times_out() -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(UrlFetchError, match=r"lookup of slow.example timed out after 0.5 s"):
        _fetch("http://slow.example/", SsrfGuard(IMPATIENT, hang))


def test_fetch_ignores_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with canary() as bird, _answering(b"hello") as web:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, bird.url(""))
        assert _fetch(web.url("/")) == b"hello"


def test_fetch_tls_checks_the_name_of_the_url(tmp_path: Path) -> None:
    """The connection goes to an address, and the certificate is checked for the name."""
    (server, client), resolve = tls_pair(tmp_path, "films.example"), _resolving("127.0.0.1")

    def script(path: str, send: Send) -> None:
        to = f"Location: http://films.example:{web.port}/"
        send(answer(b"", "302 Found", to) if path == "/plain" else answer(b"hello"))

    guard = SsrfGuard(LOOPBACK, resolve, client)
    with serving(script, server) as web:
        assert _fetch(web.url("/v.mp4", "films.example", "https"), guard) == b"hello"
        with pytest.raises(UrlFetchError, match="certificate: Hostname mismatch"):
            _fetch(web.url("/v.mp4", "other.example", "https"), guard)
        with pytest.raises(UrlFetchError, match="certificate: self-signed"):
            _fetch(web.url("/v.mp4", "films.example", "https"), SsrfGuard(LOOPBACK, resolve))
        with pytest.raises(UrlRefusedError, match="stay on https"):
            _fetch(web.url("/plain", "films.example", "https"), guard)


SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PAYLOAD = json.dumps({"type": "job.succeeded", "name": "лицо"}, ensure_ascii=False).encode()


def test_deliver_signs_the_payload() -> None:
    with _answering(b"x" * 100_000, "204 No Content") as web:
        asyncio.run(deliver(web.url("/hook?a=b"), SECRET, "evt_1", PAYLOAD, LOOPBACK))
    head, _, body = web.requests[0].partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert (request, body, headers["content-type"]) == ("POST /hook?a=b HTTP/1.1", PAYLOAD, "application/json")
    assert headers["webhook-id"] == "evt_1"
    Webhook(SECRET).verify(body, headers)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "400 Bad", "404 Not Found", "410 Gone", "429 Slow", "500 Oops"]
)
def test_deliver_other_status_than_2xx_is_an_error(status: str) -> None:
    error, found = (UrlRefusedError if "410" in status else UrlFetchError), f"(found|status) {status[:3]}"
    with (
        canary() as bird,
        _answering(b"", status, f"Location: {bird.url('/')}") as web,
        pytest.raises(error, match=found),
    ):
        asyncio.run(deliver(web.url("/"), SECRET, "evt_1", PAYLOAD, LOOPBACK))


def test_deliver_to_a_private_or_silent_receiver_fails() -> None:
    with canary() as bird, pytest.raises(UrlRefusedError):
        asyncio.run(deliver(bird.url("/"), SECRET, "evt_1", PAYLOAD, NetworkConfig()))
    with serving(lambda path, send: time.sleep(60)) as web, pytest.raises(UrlFetchError, match="too long"):
        asyncio.run(deliver(web.url("/"), SECRET, "evt_1", PAYLOAD, IMPATIENT))


def test_retry_delay_s_spreads_over_a_day() -> None:
    delays = [retry_delay_s(number) for number in range(1, MAX_ATTEMPTS)]
    assert delays == sorted(delays)
    assert 5 <= delays[0] <= 6
    assert 24 * 3600 < sum(delays) < 48 * 3600
    assert retry_delay_s(100) >= 24 * 3600
    assert len({retry_delay_s(1) for _ in range(20)}) > 1, "tries of several jobs must not come together"


PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("255.255.255.255", "224.0.0.1", "224.0.1.1", "192.0.0.170", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    *("192.88.99.1", "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "fd00:ec2::254"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


def test_allows_public_addresses_only() -> None:
    guard = SsrfGuard(NetworkConfig())
    assert [text for text in PRIVATE if guard.allows(ip_address(text))] == []
    assert [text for text in PUBLIC if not guard.allows(ip_address(text))] == []


def test_allows_addresses_of_allowed_networks() -> None:
    guard = SsrfGuard(NetworkConfig(allowed_networks=("10.1.0.0/16", "fd00::/8")))
    allowed = {text: guard.allows(ip_address(text)) for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "10.2.0.1")}
    assert list(allowed.values()) == [True, True, True, False]
    with pytest.raises(ConfigError, match="allowed_networks"):
        SsrfGuard(NetworkConfig(allowed_networks=("10.1.2.3/8",)))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://0x7f000001/", "http://2130706433/", "http://127.1/", "http://0/", "http://[::1"),
        *("http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://127.0.0.1./", "http://localhost/"),
        *("http://127。0。0。1/", "http://①②⑦.0.0.1/", "http://[::1]/", "http://[::ffff:7f00:1]/"),
        *("http://[fe80::1%25lo]/", "http://1.2.3.4.5/", "http://8.8.8.8.0x/", "http://%31%32%37.0.0.1/"),
        *("http://a.example@127.0.0.1/", "http://a.example\\@127.0.0.1/", "http://127.0.0.1\n.example/", "http:///x"),
        *("http://a..example/", "http://.example/", "http://-a.example/", "http://a.example:0/"),
        *("http://a.localhost./", "http://u:p@a.example/", "http://a.example:25/", "http://a.example:65536/"),
        *("ftp://a.example/", "file:///etc/passwd", "gopher://a.example/", "//a.example/"),
        *("/etc/passwd", "", "http://", "http://\ud83d.example/", "http://a.example/" + "x" * 5000),
    ],
)
def test_check_private_or_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        SsrfGuard(NetworkConfig()).check(url)


def test_check_public_url_of_a_listed_scheme_passes() -> None:
    plain = ("http://a.example:8080", "http://8.8.8.8./", "http://0x08080808/")
    for url in (*plain, "https://a.example/v.mp4?sig=x", "https://лицо.example/脸.mp4"):
        SsrfGuard(NetworkConfig()).check(url)
    with pytest.raises(UrlRefusedError, match=r"^http://a.example/v: expected the scheme https, found http.$"):
        SsrfGuard(NetworkConfig(url_schemes=("https",))).check("http://a.example/v?x=1")


def test_addresses_of_a_private_or_unknown_name_fails() -> None:
    target = Target.parse("http://nowhere.invalid/")
    with pytest.raises(UrlRefusedError, match="public") as refused:
        asyncio.run(SsrfGuard(NetworkConfig(), _resolving("8.8.8.8", "10.0.0.1")).addresses(target))
    assert "10.0.0.1" not in str(refused.value), "the error names no internal address"
    assert "127.0.0.1" in asyncio.run(resolve_host("localhost", 80))
    for resolve in (_resolving(), resolve_host):
        with pytest.raises(UrlFetchError, match="no address"):
            asyncio.run(SsrfGuard(NetworkConfig(), resolve).addresses(target))


def test_shown_url_has_no_secrets() -> None:
    assert shown("https://user:pass@a.example/v.mp4?signature=abc#d\n") == "https://a.example/v.mp4"
    assert str(Target.parse("https://a.example:444/v.mp4?signature=abc")) == "https://a.example:444/v.mp4"
    assert len(shown("x" * 10_000)) < 200


def test_target_join_resolves_redirects() -> None:
    target = Target.parse("https://a.example/b/c.mp4?x=1")
    joined = [str(target.join(to)) for to in ("../d.mp4", "//b.example/e", "/my file.mp4", "http://c.example:8080/")]
    assert joined[:2] == ["https://a.example/d.mp4", "https://b.example/e"]
    assert joined[2:] == ["https://a.example/my%20file.mp4", "http://c.example:8080/"]
    assert Target.parse("https://a.example/b/%e8%84%b8%2f.mp4?x=/y").file_name == "脸/.mp4"
    with pytest.raises(UrlRefusedError, match=r"redirects to http://\[::1, which is not a URL"):
        target.join("http://[::1")
    with pytest.raises(UrlRefusedError, match=r"redirects to http://b.example/: expected a URL without a user name"):
        target.join("http://user:secret@b.example/")


def test_fetch_error_of_the_writer_is_not_the_servers() -> None:
    class Late(Memory):
        def write(self, piece: bytes) -> None:
            raise StageTimeoutError("the Director did not answer")

    with _answering(BODY) as web, pytest.raises(StageTimeoutError):
        asyncio.run(fetch(web.url("/"), Late(), MAX_BYTES, SsrfGuard(LOOPBACK)))
