"""`google` as its host uses it: settings, keys, tokens, failures, attempts, on real sockets and both event loops."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    LlmRequest,
    LlmRequestScope,
    LlmTerminalReason,
    LlmToolSpec,
    Provider,
    ProviderContext,
    ProviderFailureKind,
    StreamDelta,
    TextOutput,
    ToolCallOutputPart,
)
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.plugins import imported_by
from lash_hookspecs.testing.provider import KEY, Caller, asked, check_settings
from lash_plugin_provider_google import GoogleProvider, GoogleSettings, plugin
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.testing import cut, error, event, stream, text, tools, whole
from lash_provider_kit.testing import Answer, ChatServer, document, raw, sse, status

K = ProviderFailureKind
PATH = "/v1beta/models/test-model:streamGenerateContent?alt=sse"


def calling(server: ChatServer | str, **settings: Any) -> Caller:
    url = server if isinstance(server, str) else server.origin
    made = GoogleSettings(**{"base_url": url, "api_key": KEY, **settings})
    caller = Caller()
    caller.provider = GoogleProvider(made, live_calls_allowed=False, sleep=caller.sleep)
    return caller


async def test_text() -> None:
    with ChatServer(text("Hel", "lo")) as server:
        caller = calling(server)
        response = await caller.ask()
        assert response.parts == (TextOutput(text="Hello"),)
        assert response.terminal_reason is LlmTerminalReason.STOP
        assert (response.response_id, response.served_model) == ("test-response", "test-model")
        assert [each for each in caller.events if isinstance(each, StreamDelta)] == [
            StreamDelta("Hel"),
            StreamDelta("lo"),
        ]
        request = server.requests[0]
        assert request.target == PATH
        assert request.headers["x-goog-api-key"] == KEY
        assert request.headers["content-type"] == "application/json"
        assert "authorization" not in request.headers
        assert json.loads(request.body)["contents"][0]["parts"] == [{"text": "hello"}]


async def test_tool_calls_get_ids_that_a_repetition_would_give_them_again() -> None:
    tool = LlmToolSpec(name="add", description="", input_schema={"type": "object"})
    scope = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r1")
    request = asked(tools=(tool,), scope=scope)
    answer = tools((None, "add", {"a": 1}), ("c2", "now", {}), signature="S")

    async def made(asked: LlmRequest) -> list[str]:
        with ChatServer(answer) as server:
            response = await calling(server).ask(asked)
            assert response.terminal_reason is LlmTerminalReason.TOOL_USE
            return [part.call_id for part in response.parts if isinstance(part, ToolCallOutputPart)]

    first = await made(request)
    assert first[1] == "c2"
    assert await made(request) == first
    assert (await made(attrs.evolve(request, scope=attrs.evolve(scope, request_id="r2"))))[0] != first[0]


async def test_whole_answers_where_a_gateway_cannot_stream() -> None:
    with ChatServer(whole({"text": "whole"})) as server:
        caller = calling(server, stream=False)
        assert (await caller.ask()).full_text == "whole"
        assert server.requests[0].target == "/v1beta/models/test-model:generateContent"
        assert StreamDelta("whole") in caller.events


async def test_many_calls_of_several_models_share_the_connections() -> None:
    with ChatServer() as server:
        server.default = text("Hello")
        caller = calling(server)
        for name in ("a", "b", "a", "tunedModels/x"):
            request = asked(model=name)
            assert (await caller.call(request)).full_text == "Hello"
        assert server.connections == 1
        assert [each.target.partition(":")[0] for each in server.requests] == [
            "/v1beta/models/a",
            "/v1beta/models/b",
            "/v1beta/models/a",
            "/v1beta/tunedModels/x",
        ]
        answers: list[str] = []

        async def one() -> None:
            answers.append((await caller.call()).full_text)

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(one)
        assert answers == ["Hello"] * 30
        await caller.provider.aclose()


# ---- failures


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": kind, **fields}


PER_MINUTE = detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}])
PER_DAY = detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}])
PLAN = "You exceeded your current quota, please check your plan and billing details."
OBSERVED, STARTED = "unsafe_retry_response_observed", "unsafe_retry_after_output_started"

FAILURES: dict[str, tuple[Answer, str, ProviderFailureKind, bool]] = {
    "wrong key": (
        error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com"),
        ),
        "API_KEY_INVALID",
        K.AUTH,
        False,
    ),
    "wrong key, in words only": (
        error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        "API_KEY_INVALID",
        K.AUTH,
        False,
    ),
    "a reason that is no text": (
        error(400, "INVALID_ARGUMENT", "No.", detail("ErrorInfo", reason=["API_KEY_INVALID"])),
        "INVALID_ARGUMENT",
        K.VALIDATION,
        False,
    ),
    "words of the user about keys": (
        error(400, "INVALID_ARGUMENT", "Invalid value at 'contents': \"API key not valid\""),
        "INVALID_ARGUMENT",
        K.VALIDATION,
        False,
    ),
    "no key": (error(403, "PERMISSION_DENIED"), "PERMISSION_DENIED", K.AUTH, False),
    "no token": (error(401, "UNAUTHENTICATED"), "UNAUTHENTICATED", K.AUTH, False),
    "bad request": (error(400, "INVALID_ARGUMENT"), "INVALID_ARGUMENT", K.VALIDATION, False),
    "wrong country": (error(400, "FAILED_PRECONDITION"), "FAILED_PRECONDITION", K.VALIDATION, False),
    "no such model": (error(404, "NOT_FOUND"), "NOT_FOUND", K.VALIDATION, False),
    "throttled": (error(429, "RESOURCE_EXHAUSTED", PLAN, PER_MINUTE), OBSERVED, K.QUOTA, True),
    "used up": (
        error(429, "RESOURCE_EXHAUSTED", PLAN, PER_DAY, detail("RetryInfo", retryDelay="12s")),
        "RESOURCE_EXHAUSTED",
        K.QUOTA,
        False,
    ),
    "overloaded": (error(503, "UNAVAILABLE"), OBSERVED, K.HTTP, True),
    "internal": (error(500, "INTERNAL"), OBSERVED, K.HTTP, True),
    "too late": (error(504, "DEADLINE_EXCEEDED"), OBSERVED, K.HTTP, True),
    "a status nobody knows": (status(418, {"error": {"status": "TEAPOT"}}), "TEAPOT", K.HTTP, False),
    "a proxy's page": (status(502, b"<html>no</html>"), OBSERVED, K.HTTP, True),
    "an error in a list": (
        status(400, [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}]),
        "INVALID_ARGUMENT",
        K.VALIDATION,
        False,
    ),
    "cut after text": (cut("x"), STARTED, K.TRANSPORT, False),
    "ended without a reason": (text("x", finish=None), STARTED, K.STREAM, False),
    "error after text": (
        stream(event({"text": "x"}), {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}),
        STARTED,
        K.HTTP,
        False,
    ),
    "a page": (document(b"<html></html>", content_type="text/html"), "unexpected_content", K.HTTP, False),
}


@pytest.mark.parametrize(("answer", "code", "kind", "retryable"), FAILURES.values(), ids=FAILURES.keys())
async def test_failures(answer: Answer, code: str, kind: ProviderFailureKind, retryable: bool) -> None:
    with ChatServer(answer) as server:
        caller = calling(server)
        failed = await caller.fail()
        assert (failed.code, failed.kind, failed.retryable) == (code, kind, retryable)
        assert len(server.requests) == 1
        assert caller.waits == []
        if kind is K.AUTH:
            assert "export GEMINI_API_KEY=" in failed.message


@pytest.mark.statement(16, page="providers")
@pytest.mark.parametrize(
    ("message", "overflow"),
    [
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", True),
        ("Unable to submit request because the input token count is 9 but the model only supports up to 8.", True),
        ("Request contains 'the input token count'", False),
        ("Request payload size exceeds the limit", False),
    ],
)
async def test_an_overflow_is_one_and_nothing_else_is(message: str, overflow: bool) -> None:
    with ChatServer(error(400, "INVALID_ARGUMENT", message), error(429, "RESOURCE_EXHAUSTED", message)) as server:
        failed = await calling(server).fail()
        assert (failed.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW) is overflow
        throttled = await calling(server).fail()
        assert throttled.terminal_reason is LlmTerminalReason.PROVIDER_ERROR


@pytest.mark.statement(11, page="providers")
async def test_a_throttle_waits_as_long_as_the_service_says_in_its_body() -> None:
    """Such waits cost no attempt: there are more of them here than attempts."""
    throttled = error(429, "RESOURCE_EXHAUSTED", PLAN, PER_MINUTE, detail("RetryInfo", retryDelay="3.5s"))
    with ChatServer(*[throttled] * 3, text("now")) as server:
        caller = calling(server, max_attempts=1)
        assert (await caller.ask()).full_text == "now"
        assert caller.waits == [3.5, 3.5, 3.5]


@pytest.mark.statement(14, page="providers")
async def test_the_header_comes_before_the_body_and_nothing_is_no_wait() -> None:
    info = detail("RetryInfo", retryDelay="3s")
    by_header = error(429, "RESOURCE_EXHAUSTED", "m", info, headers={"retry-after": "7"})
    with ChatServer(by_header, text("now")) as server:
        caller = calling(server)
        await caller.ask()
        assert caller.waits == [7.0]
    for delay in ("soon", "-1s", 3, None, "NaNs"):
        with ChatServer(error(429, "RESOURCE_EXHAUSTED", "m", detail("RetryInfo", retryDelay=delay))) as server:
            assert (await calling(server).fail()).code == OBSERVED


async def test_an_event_cut_in_half_is_a_cut_not_bad_data() -> None:
    half = sse(event({"text": "x"}))[:30]
    with ChatServer(raw(half, end="cut"), raw(half)) as server:
        # A part of an event is a part of an answer, so it isn't asked for again.
        assert (await calling(server, max_attempts=1).fail()).kind is K.TRANSPORT
        assert (await calling(server, max_attempts=1).fail()).code == "unsafe_retry_response_observed"


# ---- tokens


def printing(folder: Path, *tokens: str) -> tuple[str, Path]:
    """A command that prints these tokens in turn, the last one for ever; and the file in which it counts."""
    count = folder / "count"
    code = (
        "import pathlib, sys\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "n = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(n + 1))\n"
        f"tokens = {tokens!r}\n"
        "print(tokens[min(n, len(tokens) - 1)])\n"
    )
    return shlex.join([sys.executable, "-I", "-S", "-c", code]), count


@pytest.mark.statement(24, page="providers")
async def test_a_refused_token_is_renewed_once_for_all_who_wait(tmp_path: Path) -> None:
    command, count = printing(tmp_path, "old-token-1", "new-token-2")
    with ChatServer() as server:
        server.choose = lambda request: (
            error(401, "UNAUTHENTICATED", "token old-token-1 has expired")
            if request.headers["authorization"] == "Bearer old-token-1"
            else text("in")
        )
        caller = calling(server, token_command=command)
        answers: list[str] = []

        async def one() -> None:
            answers.append((await caller.call()).full_text)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
        await one()
        assert answers == ["in"] * 6
        assert count.read_text() == "2"
        assert not any("x-goog-api-key" in each.headers for each in server.requests)
        await caller.provider.aclose()


async def test_a_token_that_stays_refused_is_told_without_quoting_it(tmp_path: Path) -> None:
    command, count = printing(tmp_path, "old-token-1", "new-token-2")
    with ChatServer() as server:
        server.choose = lambda request: error(
            401, "UNAUTHENTICATED", f"no good: {request.headers['authorization'].removeprefix('Bearer ')}"
        )
        failed = await calling(server, token_command=command).fail()
        assert (failed.kind, failed.usage) == (K.AUTH, None)
        assert "new-token-2" not in repr(failed)
        assert "[redacted]" in failed.message
        assert (count.read_text(), len(server.requests)) == ("2", 2)


async def test_after_output_no_token_is_renewed(tmp_path: Path) -> None:
    command, count = printing(tmp_path, "old-token-1", "new-token-2")
    refused = {"error": {"code": 401, "message": "expired", "status": "UNAUTHENTICATED"}}
    with ChatServer(stream(event({"text": "x"}), refused)) as server:
        assert (await calling(server, token_command=command).fail()).kind is K.AUTH
        assert (count.read_text(), len(server.requests)) == ("1", 1)


async def test_a_given_token_is_all_there_is() -> None:
    with ChatServer(error(401, "UNAUTHENTICATED")) as server:
        assert (await calling(server, access_token="given-token").fail()).kind is K.AUTH
        assert [each.headers["authorization"] for each in server.requests] == ["Bearer given-token"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('not logged in')", "ended with 1: run it by hand to see why"),
        ("print()", "printed no token"),
        ("print('two words')", "printed no token"),
    ],
)
async def test_a_command_that_gives_no_token_is_a_typed_failure(code: str, words: str) -> None:
    with ChatServer() as server:
        command = shlex.join([sys.executable, "-I", "-S", "-c", code])
        failed = await calling(server, token_command=command).fail()
        assert (failed.code, failed.kind) == ("token_command_failed", K.AUTH)
        assert words in failed.message
        assert "not logged in" not in failed.message  # curl and its like tell what they were given, secrets included
        assert "provider.google.token_command" in failed.message
        assert server.connections == 0


async def test_a_command_that_is_not_there_is_too() -> None:
    with ChatServer() as server:
        failed = await calling(server, token_command="/no/such/command").fail()
        assert failed.code == "token_command_failed"


# ---- where it asks

ENDPOINTS: dict[str, tuple[dict[str, Any], str]] = {
    "Gemini": ({}, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"),
    "a stable version": (
        {"api_version": "v1"},
        "https://generativelanguage.googleapis.com/v1/models/m:generateContent",
    ),
    "a base URL with its version": (
        {"base_url": "https://gw.example/google/v1/"},
        "https://gw.example/google/v1/models/m:generateContent",
    ),
    "a base URL whose version belongs to the gateway": (
        {"base_url": "https://gw.example/v1/acme/google-ai-studio"},
        "https://gw.example/v1/acme/google-ai-studio/v1beta/models/m:generateContent",
    ),
    "a base URL with a query": (
        {"base_url": "https://gw.example/?gate=7", "stream": True},
        "https://gw.example/v1beta/models/m:streamGenerateContent?alt=sse&gate=7",
    ),
    "Vertex": (
        {"vertex": True, "project": "p"},
        "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google/models/m:generateContent",
    ),
    "Vertex in a region": (
        {"vertex": True, "project": "p", "location": "europe-west4"},
        "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/p/locations/europe-west4"
        "/publishers/google/models/m:generateContent",
    ),
    "Vertex in several regions": (
        {"vertex": True, "project": "p", "location": "eu"},
        "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/p/locations/eu"
        "/publishers/google/models/m:generateContent",
    ),
    "Vertex by a key": (
        {"vertex": True, "location": "us-central1"},
        "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/m:generateContent",
    ),
    "Vertex behind a gateway": (
        {"vertex": True, "project": "p", "base_url": "https://gw.example"},
        "https://gw.example/v1beta1/projects/p/locations/global/publishers/google/models/m:generateContent",
    ),
}


@pytest.mark.parametrize(("settings", "url"), ENDPOINTS.values(), ids=ENDPOINTS.keys())
def test_endpoints(settings: dict[str, Any], url: str) -> None:
    made = GoogleSettings(**{"stream": False, **settings})
    assert endpoint_of(made, "google").url_of("m", stream=made.stream) == url


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini 3?#", "/publishers/google/models/gemini%203%3F%23"),
        ("publishers/acme/models/x", "/publishers/acme/models/x"),
        ("projects/q/locations/l/endpoints/7", None),
    ],
)
def test_names_of_models(model: str, path: str | None) -> None:
    endpoint = endpoint_of(GoogleSettings(vertex=True, project="p"), "google")
    url = endpoint.url_of(model, stream=False).removeprefix("https://aiplatform.googleapis.com/v1beta1")
    assert url == (f"/{model}" if path is None else f"/projects/p/locations/global{path}") + ":generateContent"


async def test_a_key_that_a_gateway_wants_in_the_query_is_not_shown() -> None:
    with ChatServer(text("a")) as server:
        caller = calling(f"{server.origin}/?gate=secret-of-the-gateway", headers={"X-Gateway": "another-secret"})
        await caller.ask()
        assert server.requests[0].headers["x-gateway"] == "another-secret"
        assert "secret-of-the-gateway" not in caller.provider.capability("m").endpoint + repr(caller.provider)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "https://user:hunter22@api.example.com"},
        {"base_url": "api.example.com"},
        {"api_key": "line\nbreak-hunter22"},
        {"access_token": "line\nbreak-hunter22"},
        {"headers": {"x key": "v"}},
        {"vertex": True, "project": "a/b"},
        {"vertex": True, "project": "p", "location": "../x"},
        {"api_version": "v1/../v2"},
        {"token_command": "open 'quote"},
        {"extra_body": {"contents": []}},
        {"quirks": {"m": {"budget": 1}}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_without_quoting_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.google\.") as caught:
        GoogleProvider(GoogleSettings(**wrong))
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("retry", "always"), ("max_attempts", 0), ("deadline_s", 0), ("max_concurrent", -1)]
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        GoogleSettings(**{name: value})


def test_every_setting_has_a_default_and_a_help_text_and_secrets_are_marked() -> None:
    env = {
        "base_url": ("GOOGLE_GEMINI_BASE_URL",),
        "api_key": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "vertex": ("GOOGLE_GENAI_USE_VERTEXAI",),
        "project": ("GOOGLE_CLOUD_PROJECT",),
        "location": ("GOOGLE_CLOUD_LOCATION",),
    }
    check_settings(GoogleSettings, secrets={"api_key", "access_token", "token_command", "headers"}, env=env)


# ---- as a plugin


def opened(settings: GoogleSettings, live: bool = True) -> Provider:
    (spec,) = plugin.lash_providers()
    return spec.open(ProviderContext(provider_id="google", settings=settings, live_calls_allowed=live))


async def test_the_registered_provider_works_and_is_one() -> None:
    with ChatServer(text("Hello")) as server:
        provider = opened(GoogleSettings(base_url=server.origin), live=False)
        assert isinstance(provider, Provider)
        assert (await Caller(provider).ask()).full_text == "Hello"
        assert "x-goog-api-key" not in server.requests[0].headers


async def test_what_it_says_of_models() -> None:
    provider = opened(GoogleSettings())
    flash, unknown = provider.capability("gemini-2.5-flash"), provider.capability("m")
    assert provider.capability("models/gemini-2.5-flash") == flash
    assert flash.context_window == 1_048_576
    assert flash.prices is not None
    assert "disabled" in flash.reasoning_efforts
    assert unknown == ModelCapability(endpoint="https://generativelanguage.googleapis.com/v1beta")
    (spec,) = plugin.lash_providers()
    said = {"m": ModelCapability(context_window=5)}
    context = ProviderContext(provider_id="google", settings=GoogleSettings(), models=said)
    assert spec.open(context).capability("m").context_window == 5


@pytest.mark.parametrize(
    ("settings", "priced"),
    [
        ({}, True),
        ({"vertex": True, "project": "p"}, True),
        ({"vertex": True, "project": "p", "location": "europe-west4"}, False),
        ({"base_url": "https://gw.example"}, False),
    ],
)
def test_prices_are_those_of_the_place_that_they_were_read_at(settings: dict[str, Any], priced: bool) -> None:
    flash = opened(GoogleSettings(**settings)).capability("gemini-2.5-flash")
    assert (flash.prices is not None) is priced
    assert flash.context_window


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ("export GEMINI_API_KEY=", "--set provider.google.api_key=", "scripted:demo")),
        ({"vertex": True}, ("provider.google.project", "gcloud auth print-access-token")),
        ({"vertex": True, "access_token": "a-token"}, ("no API key, or project and token,",)),
    ],
)
async def test_without_a_key_the_message_says_what_to_type(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await Caller(opened(GoogleSettings(**settings))).ask()
    assert all(each in str(caught.value) for each in words)


async def test_a_live_call_that_nobody_allowed_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="live_calls_allowed"):
        await Caller(opened(GoogleSettings(api_key=KEY), live=False)).ask()


def test_discovery_imports_nothing_heavy() -> None:
    """`plugin` is imported at every start of every command."""
    found = imported_by("import lash_plugin_provider_google.plugin")
    assert not {"attrs", "anyio", "httpx", "orjson", "lash_provider_kit"} & found
    listed = imported_by("from lash_plugin_provider_google import plugin; plugin.lash_providers()")
    assert not {"anyio", "httpx", "orjson", "lash_provider_kit"} & listed
