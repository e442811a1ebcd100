"""Fetching from real servers: the checked address is the one that is connected to, and everything has its limit."""

from __future__ import annotations

import gzip
import ssl
import threading
from typing import Any
from urllib.robotparser import RobotFileParser

import anyio
import pytest
import trustme
from web_kit import Names, Request, http, local, redirect, serving

from lash_hookspecs.tool_declarations import ToolRetryNever, ToolRetrySafe
from lash_hookspecs.tools import ToolError
from lash_plugin_tools_web.fetching import Fetcher
from lash_plugin_tools_web.options import WebOptions

# ---- DNS rebinding --------------------------------------------------------------------------------------------------


async def test_a_name_that_changes_its_answer_gets_nothing() -> None:
    """The first answer may be asked, the second is another service of this machine, on the same port."""
    rebinding = Names({"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]})
    async with (
        serving(lambda _: http("harmless")) as harmless,
        serving(lambda _: http("secret"), host="127.0.0.2", port=harmless.port) as secret,
    ):
        fetcher = Fetcher(local(), resolve=rebinding)
        page = await fetcher.get(f"http://rebind.test:{harmless.port}/")
        assert page.answer.body == b"harmless"
        assert rebinding.asked == ["rebind.test"], "a second lookup would have had the second answer"
        assert harmless.requests[0].headers["host"] == f"rebind.test:{harmless.port}"
        with pytest.raises(ToolError) as refused:
            await fetcher.get(f"http://rebind.test:{harmless.port}/")
    assert (refused.value.code, secret.connections) == ("refused_address", 0)


async def test_a_name_that_changes_its_answer_between_redirects_gets_nothing() -> None:
    rebinding = Names({"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]})
    async with (
        serving(lambda _: redirect("/again")) as harmless,
        serving(lambda _: http("secret"), host="127.0.0.2", port=harmless.port) as secret,
    ):
        with pytest.raises(ToolError) as refused:
            await Fetcher(local(), resolve=rebinding).get(f"http://rebind.test:{harmless.port}/")
    assert (refused.value.code, harmless.connections, secret.connections) == ("refused_address", 1, 0)


async def test_tls_has_the_name_though_the_address_is_connected_to() -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("page.test").configure_cert(server_side)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    names = Names({"page.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    async with serving(lambda _: http("hello"), tls=server_side) as server:
        fetcher = Fetcher(local(), resolve=names, tls=trust)
        assert (await fetcher.get(f"https://PAGE.test.:{server.port}/")).answer.body == b"hello"
        with pytest.raises(ToolError) as wrong_name:
            await fetcher.get(f"https://other.test:{server.port}/")
        with pytest.raises(ToolError) as unknown_authority:
            await Fetcher(local(), resolve=names).get(f"https://page.test:{server.port}/")
    assert server.names == ["page.test", "other.test", "page.test"]
    for failed in (wrong_name, unknown_authority):
        assert (failed.value.code, failed.value.retry) == ("tls_failed", ToolRetryNever())
    assert len(server.requests) == 1


async def test_a_connection_that_arrives_elsewhere_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody else decides about connections, such as a proxy that is put below them."""
    connect = anyio.connect_tcp
    async with serving(lambda _: http("secret")) as server:

        async def elsewhere(remote_host: str, remote_port: int, **_: Any) -> Any:
            return await connect("127.0.0.1", server.port)

        monkeypatch.setattr(anyio, "connect_tcp", elsewhere)
        with pytest.raises(ToolError) as refused:
            await Fetcher(WebOptions(), resolve=Names({"example.com": [["93.184.215.14"]]})).get("http://example.com/")
    assert (refused.value.code, server.requests) == ("refused_address", [])


async def test_the_next_address_is_tried_where_one_is_dead() -> None:
    async with serving(lambda _: http("hello")) as server:
        options = local(allow_networks=("127.0.0.0/8",))
        names = Names({"two.test": [["127.0.0.9", "127.0.0.1"]]})
        page = await Fetcher(options, resolve=names).get(f"http://two.test:{server.port}/")
    assert page.answer.body == b"hello"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: http("through a proxy")) as proxy, serving(lambda _: http("straight")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        page = await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert (page.answer.body, proxy.connections) == (b"straight", 0)


# ---- what is sent ---------------------------------------------------------------------------------------------------


async def test_a_request_has_a_name_and_nothing_of_the_user() -> None:
    def says(request: Request) -> bytes:
        return redirect("/two", 301) if request.path == "/one?x=%C3%A4" else http("hello", set_cookie="id=1")

    async with serving(says) as server:
        fetcher = Fetcher(local(user_agent="my-bot/2 (me@example.com)"))
        page = await fetcher.get(f"http://127.0.0.1:{server.port}/one?x=ä#part")
        await fetcher.get(page.url)
    assert page.url == f"http://127.0.0.1:{server.port}/two"
    assert page.redirects == (f"http://127.0.0.1:{server.port}/one?x=%C3%A4",)
    for request in server.requests:
        assert request.headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}
        assert request.headers["user-agent"] == "my-bot/2 (me@example.com)"


# ---- redirects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with serving(lambda r: http("there") if r.path == "/b" else redirect("b", status)) as server:
        assert (await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/a")).answer.body == b"there"


async def test_redirects_end() -> None:
    async with serving(lambda request: redirect(f"{request.path}x")) as server:
        with pytest.raises(ToolError) as failed:
            await Fetcher(local(max_redirects=3)).get(f"http://127.0.0.1:{server.port}/")
    assert (failed.value.code, server.connections) == ("too_many_redirects", 4)


async def test_a_redirect_to_another_host_may_be_left_to_the_model() -> None:
    names = Names({"a.test": [["127.0.0.1"]], "b.test": [["127.0.0.1"]]})
    async with serving(lambda r: redirect(f"http://b.test:{server.port}/x")) as server:
        with pytest.raises(ToolError, match=rf"fetch http://b\.test:{server.port}/x") as refused:
            await Fetcher(local(cross_host_redirects=False), resolve=names).get(f"http://a.test:{server.port}/")
    assert (refused.value.code, server.connections) == ("refused_redirect", 1)


async def test_a_redirect_to_http_is_refused_where_only_https_is_fetched() -> None:
    with pytest.raises(ToolError, match="only https"):
        await Fetcher(local(https_only=True)).get("http://example.com/")


# ---- sizes ----------------------------------------------------------------------------------------------------------

MANY = 64 * 1024 * 1024


async def _forever(stream: Any, request: Request) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        await stream.send(b"x" * 65536)


async def _bomb(stream: Any, request: Request) -> None:
    packed = gzip.compress(bytes(1024 * 1024), 9)
    told = f"Content-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed) * 64}"
    await stream.send(f"HTTP/1.1 200 OK\r\n{told}\r\n\r\n".encode())
    for _ in range(64):  # members of one file, a megabyte each
        await stream.send(packed)


@pytest.mark.parametrize("answer", [_forever, _bomb], ids=["endless", "bomb"])
async def test_no_more_than_the_limit_is_read(answer: Any) -> None:
    async with serving(lambda _: answer) as server:
        page = await Fetcher(local(max_bytes=100_000)).get(f"http://127.0.0.1:{server.port}/")
    assert (len(page.answer.body), page.answer.is_cut) == (100_000, True)


async def _hints(stream: Any, request: Request) -> None:
    while True:
        await stream.send(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60_000 + b"\r\n\r\n")


async def test_what_is_no_answer_has_a_limit_too() -> None:
    """Hints may come before an answer, each of them within the limits of a header, and without an end."""
    async with serving(lambda _: _hints) as server:
        with pytest.raises(ToolError) as failed:
            await Fetcher(local(max_bytes=1000)).get(f"http://127.0.0.1:{server.port}/")
    assert failed.value.code == "bad_answer"


@pytest.mark.parametrize(
    ("size", "is_cut"), [(999, False), (1000, False), (1001, True)], ids=["below", "exactly", "above"]
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_the_limit_is_exact(size: int, is_cut: bool, packed: bool) -> None:
    body = b"a" * size
    answer = http(gzip.compress(body), content_encoding="gzip") if packed else http(body)
    async with serving(lambda _: answer) as server:
        page = await Fetcher(local(max_bytes=1000)).get(f"http://127.0.0.1:{server.port}/")
    assert (page.answer.body, page.answer.is_cut) == (body[:1000], is_cut)


async def test_a_file_of_several_members_is_unpacked() -> None:
    """As one that was packed in blocks; but not of thousands of nothing, a megabyte of which took half a second."""
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    packed += b"".join(gzip.compress(bytes([65 + at % 26]) * 2000) for at in range(100))
    async with serving(lambda _: http(packed, content_encoding="x-gzip")) as server:
        body = (await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")).answer.body
    assert (body[:7], len(body)) == (b"one two", 7 + 200_000)


# ---- times ----------------------------------------------------------------------------------------------------------


async def _silence(stream: Any, request: Request) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
    await stream.receive()


async def _hints(stream: Any, request: Request) -> None:
    while True:  # each of them ends a silence
        await stream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def _never(host: str, port: int) -> list[str]:
    await anyio.sleep_forever()
    return []


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (_silence, {"idle_s": 0.05}),
        (_silence, {"total_s": 0.05}),
        (_hints, {"total_s": 0.1}),
    ],
    ids=["silence", "whole", "dripping"],
)
async def test_a_slow_answer_ends(answer: Any, limits: dict[str, Any]) -> None:
    async with serving(lambda _: answer) as server:
        with pytest.raises(ToolError) as failed:
            await Fetcher(local(**limits)).get(f"http://127.0.0.1:{server.port}/")
    assert (failed.value.code, failed.value.retry) == ("timeout", ToolRetrySafe())


async def test_a_lookup_that_never_ends_ends() -> None:
    with pytest.raises(ToolError) as failed:
        await Fetcher(WebOptions(total_s=0.02), resolve=_never).get("http://example.com/")
    assert failed.value.code == "timeout"


async def test_a_cancel_leaves_nothing_open() -> None:
    """On trio a generator that is left in the middle would be a warning, which is an error here."""
    async with serving(lambda _: _silence) as server:
        with anyio.move_on_after(0.5):
            await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert server.connections == 1


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "again"),
    [
        (http("x", status=404), "http_404", False),
        (http("x", status=403), "http_403", False),
        (http("x", status=429), "http_429", True),
        (http("x", status=503), "http_503", True),
        (http("x", status=599), "http_599", False),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "bad_answer", True),
        (b"", "bad_answer", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", "bad_answer", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "bad_answer", True),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, "bad_answer", True),
        (http(b"no gzip", content_encoding="gzip"), "bad_answer", False),
        (http(gzip.compress(b"") * 5000, content_encoding="gzip"), "bad_answer", False),
        (http(gzip.compress(b"x") * 5000, content_encoding="gzip"), "bad_answer", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 6000, "bad_answer", False),
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60_000 + b"\r\n\r\n", "bad_answer", True),
        (http(b"x", content_encoding="br"), "bad_answer", False),
        (http(b"x", content_encoding="gzip, gzip"), "bad_answer", False),
        (redirect("http://[::1/"), "bad_url", False),
        (redirect("file:///etc/passwd"), "refused_scheme", False),
    ],
    ids=["404", "403", "429", "503", "599", "ssh", "nothing", "cut", "chunks", "headers", "no-gzip", "empty-members",
         "small-members", "small-chunks", "hints", "brotli", "twice",
         "bad-redirect", "file-redirect"],
)  # fmt: skip
async def test_what_is_no_page_says_so(answer: bytes, code: str, again: bool) -> None:
    async with serving(lambda _: answer) as server:
        with pytest.raises(ToolError) as failed:
            await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert (failed.value.code, isinstance(failed.value.retry, ToolRetrySafe)) == (code, again)


@pytest.mark.parametrize(
    ("headers", "after_ms"),
    [
        ({"retry_after": "3"}, 3000),
        ({"retry_after": "999999999999"}, 3_600_000),
        ({"retry_after": "Thu, 26 Nov 2026 16:00:09 GMT", "date": "Thu, 26 Nov 2026 16:00:00 GMT"}, 9000),
        ({"retry_after": "Thu, 26 Nov 2026 16:00:09 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "٣"[:0] or "-1"}, None),
        ({}, None),
    ],
)
async def test_how_long_to_wait_is_passed_on(headers: dict[str, str], after_ms: int | None) -> None:
    async with serving(lambda _: http(status=503, **headers)) as server:
        with pytest.raises(ToolError) as failed:
            await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert failed.value.retry == ToolRetrySafe(after_ms=after_ms)


async def test_a_place_where_nobody_listens_may_be_asked_again() -> None:
    async with serving(lambda _: b"") as server:
        pass
    with pytest.raises(ToolError) as failed:
        await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert (failed.value.code, failed.value.retry) == ("unreachable", ToolRetrySafe())


# ---- robots.txt -----------------------------------------------------------------------------------------------------

RULES = "User-agent: *\nDisallow: /private\n\nUser-agent: lash-web\nDisallow: /not-for-lash\n"


@pytest.mark.parametrize(
    ("robots", "path", "code"),
    [
        (http(RULES), "/", None),
        (http(RULES), "/private", None),
        (http(RULES), "/not-for-lash/x", "refused_robots"),
        (http(status=404), "/not-for-lash", None),
        (http(status=401), "/", None),
        (http(status=500), "/", "no_robots"),
        (redirect("http://127.0.0.2/"), "/", None),
        (http(b"\xff\xfe\0nonsense"), "/", None),
        (http("User-agent: *\nDisallow: /"), "/", "refused_robots"),
    ],
)
async def test_robots_txt_is_heeded_where_it_is_wanted(robots: bytes, path: str, code: str | None) -> None:
    async with serving(lambda request: robots if request.path == "/robots.txt" else http("page")) as server:
        fetcher = Fetcher(local(robots=True))
        for _ in range(2):
            try:
                await fetcher.get(f"http://127.0.0.1:{server.port}{path}")
                said = None
            except ToolError as error:
                said = error.code
            assert said == code
    asked = [request.path for request in server.requests]
    assert asked.count("/robots.txt") == (2 if code == "no_robots" else 1)
    assert asked.count(path) == (0 if code else 2)


async def test_a_long_robots_txt_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte of rules took half a second of the event loop."""
    threads, parse = [], RobotFileParser.parse

    def parsed(rules: RobotFileParser, lines: Any) -> None:
        threads.append(threading.current_thread())
        parse(rules, lines)

    monkeypatch.setattr(RobotFileParser, "parse", parsed)
    async with serving(lambda request: http(RULES if request.path == "/robots.txt" else "page")) as server:
        await Fetcher(local(robots=True)).get(f"http://127.0.0.1:{server.port}/")
    assert threads
    assert threading.main_thread() not in threads


async def test_robots_txt_is_asked_behind_a_redirect_too() -> None:
    names = Names({"a.test": [["127.0.0.1"]], "b.test": [["127.0.0.1"]]})

    def says(request: Request) -> bytes:
        there = request.headers["host"].startswith("b.test")
        if request.path == "/robots.txt":
            return http("User-agent: *\nDisallow: /" if there else "")
        return http("secret") if there else redirect(f"http://b.test:{server.port}/")

    async with serving(says) as server:
        with pytest.raises(ToolError) as refused:
            await Fetcher(local(robots=True), resolve=names).get(f"http://a.test:{server.port}/")
    assert refused.value.code == "refused_robots"
    assert [request.path for request in server.requests] == ["/robots.txt", "/", "/robots.txt"]


async def test_robots_txt_isnt_asked_unless_wanted() -> None:
    async with serving(lambda _: http("page")) as server:
        await Fetcher(local()).get(f"http://127.0.0.1:{server.port}/")
    assert [request.path for request in server.requests] == ["/"]
