"""What all of a request's encoders share."""

from __future__ import annotations

from lash_provider_kit.request_parts import RequestChecks

__all__ = ["CHECKS"]

CHECKS = RequestChecks("google")
