"""What `lash plugins new` writes: files out of templates, made of a name and a kind. Nothing is written here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from attrs import field

from lash_hookspecs.values import frozen

__all__ = ["KINDS", "NewPlugin", "name_fault"]

# kind -> modules beside plugin.py, with what the README says of them; a line about the plugin
KINDS: dict[str, tuple[dict[str, str], str]] = {
    "hook": ({"options": "what users can set"}, "Advises every model, and asks for shorter answers."),
    "tool": ({}, "Counts words."),
    "provider": (
        {"provider": "the service's models", "settings": "what users can set"},
        "A model provider that repeats what it is told.",
    ),
    "store": ({"store": "what is kept", "rules": "what a commit must be"}, "A store that keeps sessions in memory."),
    "mode": ({}, "A mode for reviews."),
}

_PREFIXED = ("provider", "store", "mode")  # kinds that are a part of a plugin's id, as in `store-sql`
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 40
_TAKEN = ("application", "lash")


def name_fault(name: str) -> str | None:
    """Why this can't be a plugin's name; None if it can."""
    if name.startswith("lash-plugin-"):
        return f"leave `lash-plugin-` out, it is added: `{name.removeprefix('lash-plugin-') or 'weather'}`"
    if not _NAME.fullmatch(name):
        return (
            "a name is lower-case letters and digits, words joined by hyphens, a letter first, such as `city-weather`"
        )
    if len(name) > _LONGEST:
        return f"a name has at most {_LONGEST} characters"
    return "lash itself has that name" if name in _TAKEN else None


@frozen(kw_only=True)
class NewPlugin:
    """A plugin to be written. `name` has passed `name_fault`."""

    name: str
    kind: str
    id: str = field(init=False)
    word: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        bare = self.name.removeprefix(f"{self.kind}-") if self.kind in _PREFIXED else self.name
        object.__setattr__(self, "id", f"{self.kind}-{bare}" if self.kind in _PREFIXED else self.name)
        object.__setattr__(self, "word", bare)

    @property
    def distribution(self) -> str:
        """The package's name, and that of its folder."""
        return f"lash-plugin-{self.id}"

    @property
    def package(self) -> str:
        """The name to import."""
        return self.distribution.replace("-", "_")

    def files(self) -> Mapping[str, str]:
        """All files, by their path in the folder."""
        modules, summary = KINDS[self.kind]
        rows = "".join(f"| `{self.package}/{each}.py` | {what} |\n" for each, what in modules.items())
        names = {
            "id": self.id,
            "word": self.word.replace("-", "_") if self.kind == "tool" else self.word,
            "variable": f"{self.word.replace('-', '_').upper()}_API_KEY",
            "distribution": self.distribution,
            "package": self.package,
            "summary": summary,
            "files": rows,
        }
        sources = {
            "pyproject.toml": "common/pyproject.toml",
            "README.md": "common/README.md",
            f"{self.package}/__init__.py": "common/__init__.py",
            f"{self.package}/plugin.py": f"{self.kind}/plugin.py",
            **{f"{self.package}/{each}.py": f"{self.kind}/{each}.py" for each in modules},
            f"tests/test_{self.id.replace('-', '_')}.py": f"{self.kind}/test.py",
        }
        made = {path: Template(_read(source)).substitute(names) for path, source in sources.items()}
        return {**made, f"{self.package}/py.typed": ""}


def _read(name: str) -> str:
    return files("lash_framework").joinpath("templates", f"{name}.tmpl").read_text(encoding="utf-8")
