"""Settings: what can be set, where it may be written, and where each value came from.

Sources, weakest first: defaults, `lash.toml` (here or in a folder above, or `--config`), the environment (`LASH_…`),
the command line or code. Loading imports neither cattrs nor anyio nor httpx.
"""

from lash_framework.settings.by_mode import SaidByMode, with_modes
from lash_framework.settings.keys import KEYS, MODE_KEYS, TABLES, Key, Table, environment_name
from lash_framework.settings.loading import load_settings
from lash_framework.settings.typed import (
    model_settings,
    plugin_settings,
    provider_settings,
    secret_fields,
    store_settings,
)
from lash_framework.settings.values import (
    Context,
    Durability,
    Observers,
    Origin,
    PluginChoice,
    Rank,
    Settings,
    default_store,
    redacted_url,
)

__all__ = [
    "KEYS",
    "MODE_KEYS",
    "TABLES",
    "Context",
    "Durability",
    "Key",
    "Observers",
    "Origin",
    "PluginChoice",
    "Rank",
    "SaidByMode",
    "Settings",
    "Table",
    "default_store",
    "environment_name",
    "load_settings",
    "model_settings",
    "plugin_settings",
    "provider_settings",
    "redacted_url",
    "secret_fields",
    "store_settings",
    "with_modes",
]
