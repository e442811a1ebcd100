"""A process that makes Markdown of one page, and nothing else.

It is a script of its own, run by `reading`: what a page may bring a parser to, be it all memory or the end of its
process, ends this one. A line of JSON says how, and where modules are; the page follows as UTF-8. The text comes back.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def limit(memory: int, seconds: int) -> None:
    """Have the system end this process, should it take more, where it can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (most, hard))


def converted(source: str, base: str | None) -> str:
    """The page as Markdown."""
    from html_to_markdown import ConversionOptions, InlineDataMedia, PreprocessingOptions, convert

    options = ConversionOptions(
        base_url=base,
        extract_metadata=False,
        autolinks=False,
        inline_data_media=InlineDataMedia.ALT_TEXT_ONLY,
        preprocessing=PreprocessingOptions(enabled=True, remove_navigation=True, remove_forms=True),
    )
    return convert(source, options).content or ""


def main() -> None:
    """`converter.py`, with all else on its input."""
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    limit(asked["memory"], asked["seconds"])
    sys.path[:] = asked["path"]
    text = converted(sys.stdin.buffer.read().decode(), asked["base"])
    sys.stdout.buffer.write(text[: asked["most"]].encode())


if __name__ == "__main__":
    main()
