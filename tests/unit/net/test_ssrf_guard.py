"""Which addresses may be reached, by any spelling, and that the connection goes to the address that was checked."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from config import NetworkConfig
from errors import ConfigError, UrlFetchError, UrlRefusedError
from net.ssrf_guard import SsrfGuard, resolve_host
from net.target import Target, shown

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


def test_check_public_url_passes() -> None:
    plain = ("http://a.example:8080", "http://8.8.8.8./", "http://0x08080808/")
    for url in (*plain, "https://a.example/v.mp4?sig=x", "https://лицо.example/脸.mp4"):
        SsrfGuard(NetworkConfig()).check(url)


def test_check_scheme_outside_url_schemes_is_refused() -> None:
    with pytest.raises(UrlRefusedError, match="expected the scheme https, found http"):
        SsrfGuard(NetworkConfig(url_schemes=("https",))).check("http://a.example/")


def test_addresses_name_with_a_private_address_is_refused() -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    async def none(host: str, port: int) -> list[str]:
        return []

    target = Target.parse("http://a.example/")
    with pytest.raises(UrlRefusedError, match="public") as refused:
        asyncio.run(SsrfGuard(NetworkConfig(), two).addresses(target))
    assert "10.0.0.1" not in str(refused.value), "the error names no internal address"
    with pytest.raises(UrlFetchError, match="no address"):
        asyncio.run(SsrfGuard(NetworkConfig(), none).addresses(target))


def test_resolve_host_uses_the_system_resolver() -> None:
    assert "127.0.0.1" in asyncio.run(resolve_host("localhost", 80))
    with pytest.raises(UrlFetchError, match="no address"):
        asyncio.run(SsrfGuard(NetworkConfig()).addresses(Target.parse("http://nowhere.invalid/")))


def test_shown_url_has_no_secrets() -> None:
    assert shown("https://user:pass@a.example/v.mp4?signature=abc#d\n") == "https://a.example/v.mp4"
    assert str(Target.parse("https://a.example:444/v.mp4?signature=abc")) == "https://a.example:444/v.mp4"
    assert len(shown("x" * 10_000)) < 200
    with pytest.raises(UrlRefusedError, match=r"ftp://a.example/v.mp4: expected the scheme https or http, found ftp.$"):
        SsrfGuard(NetworkConfig()).check("ftp://a.example/v.mp4?x=1")


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
