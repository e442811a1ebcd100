"""The TLS context of all connections, built on a thread of its own while httpx is imported.

OpenSSL reads some 140 certificates for it, a fifth of what a process does until its first request, and Python runs
meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from os import environ
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

__all__ = ["tls_context"]

_Trusted = tuple[str | None, str | None]

_built: dict[_Trusted, ssl.SSLContext] = {}


def tls_context() -> Callable[[], ssl.SSLContext]:
    """Begin to build the context that httpx would make; what comes back waits for it, and raises what went wrong.

    It is the same for all as long as the environment says the same about whom to trust.
    """
    trusted = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if trusted in _built:
        return lambda: _built[trusted]
    building: Future[ssl.SSLContext] = Future()

    def build() -> None:
        try:
            context = _built[trusted] = _trusting(*trusted)
        except Exception as error:  # whoever waits hears of it; the next one may find the file in its place
            building.set_exception(error)
        else:
            building.set_result(context)

    threading.Thread(target=build, name="lash-tls", daemon=True).start()
    return building.result


def _trusting(file: str | None, folder: str | None) -> ssl.SSLContext:
    import ssl

    if file:
        return ssl.create_default_context(cafile=file)
    if folder:
        return ssl.create_default_context(capath=folder)
    import certifi

    return ssl.create_default_context(cafile=certifi.where())
