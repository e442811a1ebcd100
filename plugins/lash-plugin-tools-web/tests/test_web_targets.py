"""Attacks on the guard, as a table: none of them makes a connection, asked for directly or by a redirect."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from hypothesis import given, strategies as st
from web_kit import Names, http, local, redirect, serving

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_web.addresses import why_not, why_not_public
from lash_plugin_tools_web.errors import FetchFailed
from lash_plugin_tools_web.fetching import Fetcher
from lash_plugin_tools_web.options import WebOptions
from lash_plugin_tools_web.targets import read_target

ADDRESS, HOST, USER, SCHEME, PORT, BAD = (
    "refused_address",
    "refused_host",
    "refused_userinfo",
    "refused_scheme",
    "refused_port",
    "bad_url",
)

# What the names below are at.
NAMES = {
    "loopback.evil.test": ["127.0.0.1"],
    "private.evil.test": ["10.1.2.3"],
    "both.evil.test": ["93.184.215.14", "192.168.0.1"],
    "last.evil.test": [*(f"93.184.215.{n}" for n in range(20)), "169.254.169.254"],
    "six.evil.test": ["::1"],
    "mapped.evil.test": ["::ffff:10.0.0.1"],
    "nat64.evil.test": ["64:ff9b::a9fe:a9fe"],
    "zone.evil.test": ["fe80::1%eth0"],
    "zone-of-a-public-one.evil.test": ["2606:4700::1%1"],
    "odd.evil.test": ["0x7f.1"],
    "nothing.evil.test": [],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "xn--bcher-kva.evil.test": ["192.168.1.1"],
    "metadata.goog": ["169.254.169.254"],
    "azure.evil.test": ["168.63.129.16"],
}

ATTACKS: dict[str, tuple[str, str]] = {
    # addresses as they are usually written
    "loopback": ("http://127.0.0.1/", ADDRESS),
    "loopback-other": ("http://127.255.255.254/", ADDRESS),
    "this-network": ("http://0.0.0.0/", ADDRESS),
    "this-network-other": ("http://0.1.2.3/", ADDRESS),
    "private-10": ("http://10.0.0.1/", ADDRESS),
    "private-172": ("http://172.31.255.255/", ADDRESS),
    "private-192": ("http://192.168.1.254/", ADDRESS),
    "carrier": ("http://100.64.0.1/", ADDRESS),
    "link-local": ("http://169.254.1.1/", ADDRESS),
    "metadata": ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", ADDRESS),
    "metadata-containers": ("http://169.254.170.2/v2/credentials", ADDRESS),
    "metadata-alibaba": ("http://100.100.100.200/latest/meta-data/", ADDRESS),
    "metadata-azure-public": ("http://168.63.129.16/machine?comp=goalstate", ADDRESS),
    "metadata-oracle": ("http://192.0.0.192/latest/", ADDRESS),
    "protocols": ("http://192.0.0.8/", ADDRESS),
    "documentation": ("http://203.0.113.9/", ADDRESS),
    "benchmarks": ("http://198.19.255.255/", ADDRESS),
    "relay-6to4": ("http://192.88.99.1/", ADDRESS),
    "multicast": ("http://224.0.0.251/", ADDRESS),
    "reserved": ("http://240.0.0.1/", ADDRESS),
    "broadcast": ("http://255.255.255.255/", ADDRESS),
    # IPv6
    "six-loopback": ("http://[::1]/", ADDRESS),
    "six-loopback-long": ("http://[0:0:0:0:0:0:0:1]/", ADDRESS),
    "six-unspecified": ("http://[::]/", ADDRESS),
    "six-mapped": ("http://[::ffff:127.0.0.1]/", ADDRESS),
    "six-mapped-hex": ("http://[::ffff:7f00:1]/", ADDRESS),
    "six-mapped-public": ("http://[::ffff:93.184.215.14]/", ADDRESS),
    "six-translated": ("http://[::ffff:0:127.0.0.1]/", ADDRESS),
    "six-compatible": ("http://[::127.0.0.1]/", ADDRESS),
    "six-unique-local": ("http://[fd12:3456::1]/", ADDRESS),
    "six-link-local": ("http://[fe80::1]/", ADDRESS),
    "six-site-local": ("http://[fec0::1]/", ADDRESS),
    "six-multicast": ("http://[ff02::1]/", ADDRESS),
    "six-documentation": ("http://[2001:db8::1]/", ADDRESS),
    "six-documentation-new": ("http://[3fff::1]/", ADDRESS),
    "six-discard": ("http://[100::1]/", ADDRESS),
    "six-unassigned": ("http://[4000::1]/", ADDRESS),
    "six-metadata": ("http://[fd00:ec2::254]/latest/meta-data/", ADDRESS),
    "nat64-loopback": ("http://[64:ff9b::127.0.0.1]/", ADDRESS),
    "nat64-private": ("http://[64:ff9b::a00:1]/", ADDRESS),
    "nat64-local": ("http://[64:ff9b:1::a00:1]/", ADDRESS),
    "6to4": ("http://[2002:7f00:1::]/", ADDRESS),
    "teredo": ("http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", ADDRESS),
    "zone": ("http://[fe80::1%25eth0]/", HOST),
    "zone-bare": ("http://[fe80::1%eth0]/", HOST),
    "zone-of-loopback": ("http://[::1%251]/", HOST),
    # odd notations, some of which are taken by some C library, browser or resolver
    "decimal": ("http://2130706433/", ADDRESS),
    "decimal-too-large": ("http://4425673729/", ADDRESS),
    "octal": ("http://0177.0.0.1/", ADDRESS),
    "octal-whole": ("http://017700000001/", ADDRESS),
    "octal-padded": ("http://127.0.0.0001/", ADDRESS),
    "hex": ("http://0x7f000001/", ADDRESS),
    "hex-upper": ("http://0X7F.0X0.0X0.0X1/", ADDRESS),
    "hex-last": ("http://127.0.0.0x1/", ADDRESS),
    "hex-empty": ("http://127.0.0.0x/", ADDRESS),
    "short-two": ("http://127.1/", ADDRESS),
    "short-three": ("http://127.0.1/", ADDRESS),
    "short-one": ("http://0/", ADDRESS),
    "five-parts": ("http://127.0.0.0.1/", ADDRESS),
    "too-large-part": ("http://127.0.0.257/", ADDRESS),
    "final-dot": ("http://127.0.0.1./", ADDRESS),
    "final-dots": ("http://127.0.0.1../", BAD),
    "percent": ("http://%31%32%37.0.0.1/", HOST),
    "percent-dot": ("http://127%2e0%2e0%2e1/", HOST),
    "percent-localhost": ("http://localhos%74/", HOST),
    "full-width": ("http://１２７.０.０.１/", ADDRESS),
    "circled": ("http://①②⑦.⓪.⓪.①/", ADDRESS),
    "arabic-digits": ("http://١٢٧.٠.٠.١/", BAD),
    "ideographic-dots": ("http://127。0。0。1/", ADDRESS),
    "half-width-dots": ("http://127｡0｡0｡1/", ADDRESS),
    "soft-hyphen": ("http://127.0.0.\u00ad1/", ADDRESS),
    "zero-width": ("http://local\u200bhost/", HOST),
    "circled-letters": ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", HOST),
    "four-in-brackets": ("http://[127.0.0.1]/", BAD),
    "future-address": ("http://[v1.127.0.0.1]/", BAD),
    # names of this machine or network
    "localhost": ("http://localhost/", HOST),
    "localhost-mixed": ("http://LocalHost/", HOST),
    "localhost-dot": ("http://localhost./", HOST),
    "localhost-below": ("http://anything.localhost/", HOST),
    "dotless": ("http://intranet-wiki/", HOST),
    "internal": ("http://metadata.google.internal/computeMetadata/v1/", HOST),
    "mdns": ("http://printer.local/", HOST),
    "home": ("http://router.home.arpa/", HOST),
    # names of the attacker's
    "name-loopback": ("http://loopback.evil.test/", ADDRESS),
    "name-private": ("https://private.evil.test/", ADDRESS),
    "name-upper": ("http://PRIVATE.Evil.Test/", ADDRESS),
    "name-dot": ("http://private.evil.test./", ADDRESS),
    "name-one-of-two": ("http://both.evil.test/", ADDRESS),
    "name-one-of-many": ("http://last.evil.test/", ADDRESS),
    "name-six": ("http://six.evil.test/", ADDRESS),
    "name-mapped": ("http://mapped.evil.test/", ADDRESS),
    "name-nat64": ("http://nat64.evil.test/", ADDRESS),
    "name-zone": ("http://zone.evil.test/", ADDRESS),
    "name-zone-public": ("http://zone-of-a-public-one.evil.test/", ADDRESS),
    "name-odd-answer": ("http://odd.evil.test/", ADDRESS),
    "name-nip": ("http://127.0.0.1.nip.io/", ADDRESS),
    "name-umlaut": ("http://bücher.evil.test/", ADDRESS),
    "name-metadata": ("http://metadata.goog/", ADDRESS),
    "name-azure": ("http://azure.evil.test/", ADDRESS),
    "name-at-nothing": ("http://nothing.evil.test/", "unknown_host"),
    "name-unknown": ("http://unknown.evil.test/", "unknown_host"),
    # what two parsers read in two ways
    "userinfo": ("http://example.com@127.0.0.1/", USER),
    "userinfo-password": ("http://example.com:80@127.0.0.1/", USER),
    "userinfo-empty": ("http://@127.0.0.1/", USER),
    "userinfo-twice": ("http://a@example.com@127.0.0.1/", USER),
    "backslash": ("http://example.com\\@127.0.0.1/", BAD),
    "backslash-slash": ("http:\\\\127.0.0.1/", BAD),
    "fragment-at": ("http://127.0.0.1#@example.com/", ADDRESS),
    "query-at": ("http://127.0.0.1?@example.com/", ADDRESS),
    "tab-in-host": ("http://127.0\t.0.1/", BAD),
    "newline-in-host": ("http://exa\nmple.com/", BAD),
    "header-in-path": ("http://example.com/ HTTP/1.1\r\nHost: 127.0.0.1", BAD),
    "nul": ("http://127.0.0.1\0.example.com/", BAD),
    "no-break-space": ("http://127.0.0.1\u00a0.example.com/", BAD),
    "full-width-slash": ("http://127.0.0.1／.example.com/", BAD),
    "full-width-at": ("http://example.com＠127.0.0.1/", BAD),
    "two-ports": ("http://example.com:80:22/", BAD),
    "port-of-letters": ("http://example.com:ssh/", BAD),
    "port-unicode": ("http://example.com:٢٢/", BAD),
    "port-too-large": ("http://example.com:65616/", BAD),
    "port-negative": ("http://example.com:-22/", BAD),
    "port-behind-brackets": ("http://[::1]22/", BAD),
    "no-host": ("http:///127.0.0.1/", BAD),
    "no-slashes": ("http:127.0.0.1", BAD),
    "three-slashes": ("http:////127.0.0.1/", BAD),
    "empty-label": ("http://example..com/", BAD),
    "long-label": (f"http://{'a' * 64}.com/", BAD),
    "long-url": (f"http://example.com/{'a' * 9000}", BAD),
    # other schemes and ports
    "file": ("file:///etc/passwd", SCHEME),
    "gopher": ("gopher://127.0.0.1:6379/_INFO", SCHEME),
    "ftp": ("ftp://127.0.0.1/", SCHEME),
    "dict": ("dict://127.0.0.1:11211/stat", SCHEME),
    "data": ("data:text/html,hello", SCHEME),
    "javascript": ("javascript:alert(1)", SCHEME),
    "unix": ("unix:///var/run/docker.sock", SCHEME),
    "http-in-disguise": ("ｈttp://127.0.0.1/", SCHEME),
    "no-scheme": ("//127.0.0.1/", SCHEME),
    "bare": ("127.0.0.1/admin", SCHEME),
    "ssh-port": ("http://example.com:22/", PORT),
    "redis-port": ("http://93.184.215.14:6379/", PORT),
}


def test_there_are_enough_rows() -> None:
    assert len(ATTACKS) >= 60


def names() -> Names:
    return Names({name: [answer] for name, answer in NAMES.items()})


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where anything connected to, below all code of the plugin and of its HTTP library."""
    made: list[str] = []

    async def connect_tcp(remote_host: str, remote_port: int, **_: Any) -> Any:
        made.append(f"{remote_host}:{remote_port}")
        raise OSError("no test reaches the network")

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    return made


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a redirect leads into the same table on both loops
@pytest.mark.parametrize(("url", "code"), ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_connects_to_nothing(url: str, code: str, connected: list[str]) -> None:
    with pytest.raises(ToolError) as refused:
        await Fetcher(WebOptions(), resolve=names()).get(url)
    assert (refused.value.code, connected) == (code, [])


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("http://example.com/", "93.184.215.14:80"),
        ("https://EXAMPLE.com./", "93.184.215.14:443"),
        ("https://93.184.215.14/x", "93.184.215.14:443"),
        ("http://[2606:4700::1]/", "2606:4700::1:80"),
        ("http://[64:ff9b::93.184.215.14]/", "64:ff9b::5db8:d70e:80"),
    ],
)
async def test_the_public_web_is_reached(url: str, there: str, connected: list[str]) -> None:
    """Without this the table above would prove nothing."""
    with pytest.raises(FetchFailed) as failed:
        await Fetcher(WebOptions(), resolve=Names({"example.com": [["93.184.215.14"]]})).get(url)
    assert (failed.value.code, connected) == ("unreachable", [there])


async def test_a_redirect_leads_no_attack_further() -> None:
    """All of the table once more, behind a server that may be asked."""
    rows = list(ATTACKS.items())
    # A Location is joined with the URL before it, so what has no scheme is a path there, and what has no slashes, too.
    relative = {"no-slashes", "bare", "no-scheme", "no-host", "three-slashes", "http-in-disguise"}
    # What the options of this test allow.
    allowed = {"loopback", "name-loopback", "name-nip", "ssh-port", "redis-port", "fragment-at", "query-at"}
    # No server can send these in a header.
    unsent = {"newline-in-host", "header-in-path", "nul"}
    async with serving(lambda request: redirect(rows[int(request.path[1:])][1][0])) as server:
        fetcher = Fetcher(local(), resolve=names())
        for number, (name, (_, code)) in enumerate(rows):
            if name in relative | allowed | unsent:
                continue
            with pytest.raises(ToolError) as refused:
                await fetcher.get(f"http://127.0.0.1:{server.port}/{number}")
            assert refused.value.code == code, name
    assert server.connections == len(rows) - len(relative | allowed | unsent)


@pytest.mark.parametrize("location", ["//127.0.0.2:{port}/", "http://127.0.0.2:{port}/", "http:\\\\127.0.0.2:{port}\\"])
async def test_a_redirect_to_another_service_of_this_machine_never_arrives(location: str) -> None:
    async with (
        serving(lambda _: b"", host="127.0.0.2") as secret,
        serving(lambda _: redirect(location.format(port=secret.port))) as open_door,
    ):
        with pytest.raises(ToolError):
            await Fetcher(local()).get(f"http://127.0.0.1:{open_door.port}/")
    assert (open_door.connections, secret.connections) == (1, 0)


# ---- what the options allow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "networks", "is_host", "reason"),
    [
        ("10.1.2.3", ["10.1.0.0/16"], False, None),
        ("10.2.2.3", ["10.1.0.0/16"], False, "private"),
        ("10.2.2.3", [], True, None),
        ("fd00::1", ["fd00::/8"], False, None),
        ("::1", ["10.0.0.0/8"], False, "loopback"),
        ("169.254.169.254", ["169.254.0.0/16"], False, "metadata of a cloud"),
        ("169.254.169.254", ["0.0.0.0/0"], False, "metadata of a cloud"),
        ("169.254.169.254", [], True, "metadata of a cloud"),
        ("169.254.169.254", ["169.254.169.254/32"], False, None),
        ("64:ff9b::a9fe:a9fe", [], True, "metadata of a cloud"),
        ("8.8.8.8", [], False, None),
    ],
)
def test_allowed_networks_and_hosts(address: str, networks: list[str], is_host: bool, reason: str | None) -> None:
    assert why_not(ip_address(address), [ip_network(each) for each in networks], is_allowed_host=is_host) == reason


def test_the_edges_of_every_network_that_isnt_public() -> None:
    for text in ("9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
                 "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
                 "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1", "2001:db9::", "2003::1",
                 "2000::", "3ffe::1"):  # fmt: skip
        assert why_not_public(ip_address(text)) is None, text
    for text in ("10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0", "169.254.255.255",
                 "172.16.0.0", "172.31.255.255", "192.168.255.255", "198.18.0.0", "198.19.255.255", "224.0.0.0",
                 "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2002:ffff::", "1fff::1", "4000::"):  # fmt: skip
        assert why_not_public(ip_address(text)) is not None, text


def test_allowed_hosts_may_be_within_a_network() -> None:
    assert read_target("http://wiki/x", allowed_hosts=("wiki",)).host == "wiki"
    assert read_target("http://WIKI.corp./", allowed_hosts=("wiki.corp",)).host == "wiki.corp"
    with pytest.raises(ToolError):
        read_target("http://other.corp/", allowed_hosts=("wiki.corp",))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTP://Example.COM:80/a?b=c#d", "http://example.com/a?b=c"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://bücher.example/ä?ö=ü", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("https://example.com/%7Efoo/a%2Fb", "https://example.com/%7Efoo/a%2Fb"),
        ("https://[2606:4700:0:0::1]:8080/", "https://[2606:4700::1]:8080/"),
        (" https://example.com/ ", "https://example.com/"),
        ("https://example.com:/", "https://example.com/"),
    ],
)
def test_a_url_is_read_as_one_would_think(text: str, url: str) -> None:
    assert read_target(text).url == url


# ---- whatever else somebody may think of ----------------------------------------------------------------------------

PIECES = st.sampled_from([
    "0", "1", "7", "8", "10", "127", "169.254", "192.168", "255", "256", "0x", "0x7f", "x", "a", "f", "example", "com",
    "localhost", ".", ".", ".", "..", ":", "::", "[", "]", "@", "%", "%25", "%2e", "#", "?", "/", "\\", "-", "_", "e",
    "１", "②", "٣", "。", "．", "\u00ad", "\u200d", "ｘ", "ß", "ü", "ffff", "64:ff9b::", "fe80::", "xn--", "80", " ",
])  # fmt: skip


def is_address(host: str) -> bool:
    """Whether a C library takes it for one, in whatever notation."""
    for read in (socket.inet_aton, partial(socket.inet_pton, socket.AF_INET6)):
        with suppress(OSError):
            read(host)
            return True
    return False


@given(st.lists(PIECES, max_size=9).map("".join))
def test_a_host_that_is_taken_for_a_name_is_an_address_to_nobody(text: str) -> None:
    """Name lookup takes for an address whatever `inet_aton` does; that must never be asked for as a name."""
    try:
        target = read_target(f"http://{text}")
    except ToolError:
        return
    assert read_target(target.url) == target, "what was read says the same when it is read again"
    parts = urlsplit(target.url)
    assert (parts.hostname, parts.port or 80) == (target.host, target.port)
    assert target.url.isascii()
    if target.address is None:
        assert not is_address(target.host)
    else:
        assert target.host == str(target.address)


async def test_the_machines_own_lookup_is_judged_too() -> None:
    async with serving(lambda _: http("hello")) as server:
        url = f"http://localhost:{server.port}/"
        page = await Fetcher(WebOptions(ports=(), allow_hosts=("localhost",))).get(url)
        assert page.answer.body == b"hello"
        with pytest.raises(ToolError):
            await Fetcher(WebOptions(ports=())).get(url)
        with pytest.raises(ToolError):
            await Fetcher(WebOptions(allow_hosts=("localhost",))).get(url)
