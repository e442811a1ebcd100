"""What a user may set: `[store_options]` in `lash.toml`, and the twins in the environment."""

from __future__ import annotations

from typing import Literal

from attrs import field, validators

from lash_hookspecs.values import frozen

__all__ = ["SqlSettings"]


@frozen(kw_only=True)
class SqlSettings:
    """Settings of an SQLite store.

    `synchronous`: "full" survives a loss of power with every acknowledged commit, and with all of a turn that others
    may know of; "extra" with each record of a turn before the turn goes on. "normal" is quicker and survives the death
    of the process, but a loss of power may take the last commits with it (the database stays sound).
    `busy_timeout_s`: how long a write waits for another process's write before it fails with `Contended`.
    `readers`: connections for reading, each opened when it is first needed.
    `max_page_count`: the most pages (of 4,096 bytes) that the file may have; None for SQLite's own limit.
    """

    synchronous: Literal["full", "extra", "normal"] = field(
        default="full", validator=validators.in_(("full", "extra", "normal"))
    )
    busy_timeout_s: float = field(default=30.0, validator=validators.gt(0))
    readers: int = field(default=2, validator=validators.ge(1))
    max_page_count: int | None = None
