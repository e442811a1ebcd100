"""Registers the SQL store for `sqlite:` addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_hookspecs import hookimpl

if TYPE_CHECKING:
    from lash_hookspecs.plugins import PluginInfo
    from lash_hookspecs.stores import Store, StoreContext, StoreSpec


@hookimpl
def lash_plugin_info() -> PluginInfo:
    """Who we are."""
    from lash_hookspecs.plugins import PluginInfo

    return PluginInfo(id="store-sql", version="0.1.0", summary="sessions in SQLite", capabilities=["filesystem"])


@hookimpl
def lash_stores() -> Sequence[StoreSpec]:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` for memory."""
    from lash_hookspecs.stores import StoreSpec
    from lash_plugin_store_sql.settings import SqlSettings

    return [StoreSpec(schemes=("sqlite",), open=_open, settings=SqlSettings, summary="an SQLite file, or memory")]


async def _open(context: StoreContext) -> Store:
    from lash_plugin_store_sql.store import open_store

    return await open_store(context)
