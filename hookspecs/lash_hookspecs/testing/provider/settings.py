"""What is asked of a provider's settings, which people set, print and read about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from lash_hookspecs.testing.provider.caller import KEY

__all__ = ["check_settings"]


def check_settings(settings: type[Any], *, secrets: Collection[str], env: Mapping[str, tuple[str, ...]]) -> None:
    """Every setting has a default and a help text; `secrets` and variables (`env`) are these, and no secret is shown.

    Raises `AssertionError`.
    """
    fields = attrs.fields_dict(settings)
    bare = [name for name, each in fields.items() if each.default is attrs.NOTHING or not each.metadata.get("help")]
    if bare:
        raise AssertionError(f"without a default or a help text: {bare}")
    marked = {name for name, each in fields.items() if each.metadata.get("secret")}
    if marked != set(secrets):
        raise AssertionError(f"these are marked as secret: {sorted(marked)}")
    named = {name: each.metadata["env"] for name, each in fields.items() if "env" in each.metadata}
    if named != env:
        raise AssertionError(f"these have variables: {named}")
    plain = settings()
    given = {name: {"x": KEY} if isinstance(getattr(plain, name), Mapping) else KEY for name in secrets}
    if KEY in (shown := repr(settings(**given))):
        raise AssertionError(f"a secret is shown in {shown}")
