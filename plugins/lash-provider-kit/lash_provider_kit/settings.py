"""The settings that every provider has, and how a setting is declared. Loaded to list providers: it imports little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_

from lash_hookspecs.values import frozen

__all__ = ["CallSettings", "setting", "table", "texts"]


def setting(default: Any, help: str, *, env: tuple[str, ...] = (), secret: bool = False, check: Any = None) -> Any:
    """A setting; `env` are the variables that it is taken from, `check` a validator."""
    metadata = {"help": help, **({"env": env} if env else {}), **({"secret": True} if secret else {})}
    return field(default=default, repr=not secret, metadata=metadata, validator=check)


def table(help: str) -> Any:
    """A setting that is a table, empty unless set."""
    return field(factory=dict, metadata={"help": help})


def texts(help: str) -> Any:
    """A setting that is a list of texts, empty unless set."""
    return field(default=(), converter=_tuple, metadata={"help": help})


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    # attrs looks at a converter's signature, and at that of the builtin `tuple` for several milliseconds.
    return tuple(value)


@frozen(kw_only=True)
class CallSettings:
    """How a service is called. All times in seconds."""

    headers: Mapping[str, str] = field(
        factory=dict,
        repr=lambda headers: f"<{len(headers)} headers>",  # their values may be secret
        metadata={"help": "further headers of every request, such as a gateway's key", "secret": True},
    )
    connect_timeout_s: float = setting(15.0, "for name lookup, connection and TLS", check=gt(0))
    chunk_timeout_s: float = setting(120.0, "the longest silence, first answer included", check=gt(0))
    deadline_s: float = setting(300.0, "for a whole attempt, whatever keeps arriving", check=gt(0))
    retry: Literal["charge_safe", "lenient", "off"] = setting(
        "charge_safe",
        "`charge_safe` repeats only where no answer was seen; `lenient` also 5xx and cut answers",
        check=in_(("charge_safe", "lenient", "off")),
    )
    max_attempts: int = setting(4, "how often a call is tried, courtesy waits aside", check=ge(1))
    http2: bool = setting(False, "speak HTTP/2 where the service does; needs the package `h2`")
    max_concurrent: int = setting(0, "calls at a time; 0: no limit", check=ge(0))
    requests_per_minute: int = setting(0, "requests in any minute; 0: no limit", check=ge(0))
    tokens_per_minute: int = setting(0, "tokens sent in any minute, by estimate; 0: no limit", check=ge(0))
    capture_requests: bool = setting(False, "keep the body of each request, without secrets, in the call's record")
