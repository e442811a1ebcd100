"""Proxies and certificates that the environment names wrongly: the user's to mend, and told as what they are."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_provider_kit import transport
from lash_provider_kit.failures import AttemptFailed
from lash_provider_kit.testing import refused_url
from lash_provider_kit.transport import HttpTransport, Timeouts

PASSWORD = "a-proxys-password"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def refused(url: str) -> ConfigurationError:
    """What is said of connections that can't even be set up; nobody is asked anything."""
    http = HttpTransport(provider="p", url=url, headers={}, timeouts=Timeouts())
    with pytest.raises(ConfigurationError) as caught:
        await http.post([b"{}"])
    await http.aclose()
    chain: Any = caught.value
    while chain is not None:
        assert PASSWORD not in f"{chain} {chain!r}"
        chain = chain.__cause__ or chain.__context__
    return caught.value


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("http_proxy", f"foo://user:{PASSWORD}@127.0.0.1:1"),
        ("http_proxy", f"http://user:{PASSWORD}@127.0.0.1:port"),
        pytest.param(
            "all_proxy",
            f"socks5://user:{PASSWORD}@127.0.0.1:1",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("socksio") is not None, reason="socksio is installed: SOCKS works"
            ),
        ),
    ],
)
async def test_a_proxy_that_cannot_be_one_is_named(name: str, proxy: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(name, proxy)
    assert "all_proxy" in str(await refused("http://model.example/v1"))


async def test_certificates_that_are_none_are_named(environment: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It isn't the service that can't be reached, and waiting for it won't help."""
    words = tmp_path / "words.pem"
    words.write_text("no certificate")
    for file in (words, tmp_path / "missing.pem"):
        transport._tls_context.cache_clear()
        environment.setenv("SSL_CERT_FILE", str(file))
        assert "SSL_CERT_FILE" in str(await refused("https://localhost:1/v1"))


async def test_a_proxy_that_is_down_is_told_from_a_service_that_is(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", refused_url())
    http = HttpTransport(provider="p", url="http://model.example/v1", headers={}, timeouts=Timeouts())
    with pytest.raises(AttemptFailed) as caught:
        await http.post([b"{}"])
    await http.aclose()
    assert caught.value.error.code == "connection_refused"
    assert "proxy" in caught.value.error.message
