"""The TLS context: httpx's own in all that counts, built beside the import of httpx."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import certifi
import httpx
import pytest

from lash_provider_kit import tls


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_built", {})
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("trusts", [None, "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_it_is_the_context_that_httpx_makes(
    trusts: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trusts is not None:
        monkeypatch.setenv(trusts, certifi.where() if trusts == "SSL_CERT_FILE" else str(tmp_path))
    ours, theirs = tls.tls_context()(), httpx.create_ssl_context()
    for name in ("options", "verify_mode", "verify_flags", "check_hostname", "minimum_version", "protocol"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_ca_certs() == theirs.get_ca_certs()
    assert ours.get_ciphers() == theirs.get_ciphers()


def test_it_is_built_once_and_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = []
    trusting = tls._trusting
    monkeypatch.setattr(tls, "_trusting", lambda *given: builders.append(threading.get_ident()) or trusting(*given))
    assert tls.tls_context()() is tls.tls_context()()
    assert len(builders) == 1
    assert builders[0] != threading.get_ident()


def test_what_goes_wrong_is_told_to_who_waits_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = tmp_path / "trusted.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with pytest.raises(FileNotFoundError):
        tls.tls_context()()
    trusted.write_bytes(Path(certifi.where()).read_bytes())
    assert tls.tls_context()().get_ca_certs()


def test_nothing_is_imported_before_it_is_wanted() -> None:
    program = "import sys, lash_provider_kit.tls; print([n for n in ('certifi', 'httpx') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    assert ran.stdout.strip() == "[]"
