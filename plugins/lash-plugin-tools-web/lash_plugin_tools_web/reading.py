"""From the bytes of a page to text that a model can read."""

from __future__ import annotations

import codecs
import html
import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from lash_hookspecs.tools import ToolFailureClass
from lash_plugin_tools_web.errors import FetchFailed

__all__ = ["Reading", "media_type", "read"]

log = logging.getLogger("lash.web")

_CONVERTER = str(Path(__file__).with_name("converter.py"))
_LEAST_MEMORY, _MEMORY = 1024**3, 256
"""Bytes that making a text may take, at least and for each character: a usual page takes a tenth of it."""

_LEAST_TEXT, _TEXT = 1024**2, 4
"""Characters that a text may have: a table whose cells span thousands of columns comes to hundreds of megabytes."""

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXTS = re.compile(
    r"text/.*|application/(.*[+.-])?(json|xml|yaml|toml|javascript|ecmascript|x-ndjson|jsonl|sql|graphql|x-sh|rtf)|image/svg\+xml"
)
# What pages come in, as Python names it. Codecs that aren't for text, or take their time, are not among them.
_ENCODINGS = re.compile(
    r"ascii|big5(hkscs)?|cp(866|874|932|949|125[0-8])|euc_(jp|kr)|gb(18030|2312|k)|iso2022_jp|iso8859-(1[03-6]?|[2-9])"
    r"|koi8-[ru]|mac-(roman|cyrillic)|shift_jis|tis-620|utf-8(-sig)?|utf-16(-[bl]e)?"
)
# The web calls these other names than Python, or means a larger one by them.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,2000})", re.IGNORECASE)
_HEAD = 64 * 1024
_LONGEST_BASE = 500
"""Of what is put before each relative link: a page may have a hundred thousand of them."""
# A `<base>` that isn't plainly a short one.
_ODD_BASE = re.compile(
    r"""<base\b(?!(?:\s+\w+\s*=\s*(?:"[^"]{0,500}"|'[^']{0,500}'|[^\s"'<>=`]{1,500})){0,3}\s*/?>)""", re.IGNORECASE
)


@frozen(kw_only=True)
class Reading:
    """A page as text. Of HTML it is Markdown, without navigation and what a reader wouldn't see."""

    text: str
    title: str | None = None


def media_type(content_type: str, body: bytes) -> str:
    """The type without its parameters; where none was told, what the bytes look like."""
    told = content_type.partition(";")[0].strip().lower()
    if told:
        return told
    if b"\0" in body[:1024]:
        return "application/octet-stream"
    return "text/html" if body[:512].lstrip()[:1] == b"<" else "text/plain"


def read(body: bytes, content_type: str, url: str, *, as_source: bool = False, limit_s: float = 60) -> Reading:
    """The text of a page; `as_source`: of HTML as it is. Raises `FetchFailed` for what isn't text, or takes too long.

    It waits for another process, for a second where a page is large: call it in a thread.
    """
    kind = media_type(content_type, body)
    if _TEXTS.fullmatch(kind) is None and kind not in _HTML:
        text = f"{url} is of the type {kind[:60]!r} ({len(body)} bytes read): only text can be read"
        raise FetchFailed("unsupported_type", text, kind=ToolFailureClass.INVALID_REQUEST)
    source = body.decode(_encoding(body, content_type), "replace")
    if kind not in _HTML:
        return Reading(text=source)
    title = _TITLE.search(source[:_HEAD])
    shown = source if as_source else _converted(source, url, limit_s)
    return Reading(text=shown.strip(), title=" ".join(html.unescape(title[1]).split()) if title else None)


def _encoding(body: bytes, content_type: str) -> str:
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name
    told = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_:.-]{1,40})", content_type, re.IGNORECASE)
    meta = _META.search(body[:2048])
    for each in (told[1] if told else "", meta[1].decode() if meta else ""):
        if each and (known := _known(each.lower())):
            return known
    return "utf-8"


def _known(name: str) -> str | None:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return _MEANT.get(found, found) if _ENCODINGS.fullmatch(found) else None


def _converted(source: str, url: str, limit_s: float) -> str:
    """In a process of its own: a page can bring a parser to take all memory, which ends the process that it is in."""
    asked = {
        "base": url if len(url) <= _LONGEST_BASE else None,
        "memory": max(_LEAST_MEMORY, _MEMORY * len(source)),
        "seconds": math.ceil(limit_s) + 1,
        "most": max(_LEAST_TEXT, _TEXT * len(source)),
        "path": sys.path,
    }
    page = _ODD_BASE.sub("<no-base", source).encode("utf-8", "replace")
    command = [sys.executable, "-I", _CONVERTER]
    try:
        done = subprocess.run(
            command, input=json.dumps(asked).encode() + b"\n" + page, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        text = f"making text of {url[:200]} took longer than {limit_s:g} s"
        raise FetchFailed("timeout", text, kind=ToolFailureClass.TIMEOUT) from None
    if done.returncode != 0:
        log.info("no text was made of %s: %s", url[:200], done.stderr.decode(errors="replace").strip()[-500:])
        raise FetchFailed(
            "unreadable", f"no text can be made of {url[:200]}, which is an odd page; `raw` has its source"
        )
    return done.stdout.decode()
