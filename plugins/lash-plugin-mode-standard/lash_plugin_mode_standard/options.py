"""What a user may set for the mode."""

from __future__ import annotations

from lash_hookspecs.values import frozen

__all__ = ["StandardOptions"]


@frozen
class StandardOptions:
    """Options of the mode `standard`: it has none, so that every one is a slip, and refused."""
