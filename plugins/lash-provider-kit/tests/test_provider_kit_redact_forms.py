"""A secret as libraries of other languages write it: in a URL, and in JSON that is safe to put into a page."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from lash_provider_kit.redact import Redactor

SECRET = "QWxhZGRpbjp+/open<sesame>&it's'=="


def escaped(characters: str, form: str) -> str:
    return re.sub(f"[{characters}]", lambda found: "\\u" + format(ord(found[0]), form), SECRET)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(quote(SECRET), id="a path"),
        pytest.param(quote(SECRET, safe=""), id="a query"),
        pytest.param(re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")), id="a query, lower case"),
        pytest.param(escaped("<>&", "04x"), id="Go"),
        pytest.param(escaped("<>&='", "04x"), id="Gson"),
        pytest.param(escaped("<>&'+", "04X"), id=".NET"),
    ],
)
def test_no_form_of_a_secret_is_shown(shown: str) -> None:
    assert shown != SECRET
    assert Redactor([SECRET])(f'{{"message":"Bad key {shown}."}}') == '{"message":"Bad key [redacted]."}'


def test_an_ordinary_key_has_one_form() -> None:
    """Each form is looked for in each text that leaves."""
    assert repr(Redactor(["sk-ordinary_0123456789"])) == "<Redactor of 1 secrets>"
