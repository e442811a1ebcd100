"""Which settings files, of those that are found rather than named, may do what they say.

Who unpacks a folder and runs `lash` in it has read nothing. So whoever is at a terminal is asked about a `lash.toml`
that was found and says more than which model, mode and prompts. What is trusted are its far-reaching settings, each by
a digest, at this place; it is kept in the user's state folder, a file for each place. All else in it may change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lash_framework.settings.reaches import Reach, reaches_of
from lash_framework.settings.sources import TRUSTED, read_file
from lash_hookspecs.errors import ConfigurationError

__all__ = [
    "UntrustedSettings",
    "require_trust",
    "revoke",
    "trust",
    "trusted_files",
    "untrusted_in",
]

log = logging.getLogger("lash.settings")

_VERSION = 1
_LARGEST = 1024 * 1024


class UntrustedSettings(ConfigurationError):
    """A `lash.toml` that was found reaches further than it is trusted. `reaches` are the settings that do."""

    def __init__(self, file: Path, shown: str, reaches: Sequence[Reach]) -> None:
        self.file = file
        self.shown = shown
        self.reaches = tuple(reaches)
        told = dict[str, list[str]]()
        for each in reaches:
            told.setdefault(each.decides, []).append(f"`{each.key}`" + (f" (line {each.line})" if each.line else ""))
        said = "; ".join(f"{', '.join(keys)} decides {decides}" for decides, keys in told.items())
        import shlex

        super().__init__(
            f"{shown}: it was found here, and isn't trusted: {said}. Read it, and type "
            f"`lash trust {shlex.quote(shown)}`, or name it with `--config` or LASH_CONFIG"
        )


def require_trust(file: Path, shown: str, env: Mapping[str, str], reaches: Sequence[Reach]) -> None:
    """Raise `UntrustedSettings` for what a file that was found, and says this, may not decide yet.

    A database that isn't there yet has nothing in it: the setting that names it is trusted from then on.
    """
    if not reaches or _is_below(file, env.get(TRUSTED, "")):
        return
    known = _read(_kept_in(file))
    new = [each for each in reaches if each.digest not in known]
    empty = [each for each in new if _is_new_database(file, each)]
    if missing := [each for each in new if each not in empty]:
        raise UntrustedSettings(file, shown, missing)
    if empty:
        try:
            _write(file, known | {each.digest for each in empty})
        except OSError as error:  # it is asked about once the database is there
            log.info("%s can't be written (%s)", _kept_in(file), error.strerror or error)


def untrusted_in(file: Path, shown: str) -> tuple[Reach, ...]:
    """What a file would decide, and isn't trusted with. Raises `ConfigurationError` where it can't be read."""
    known = _read(_kept_in(file))
    return tuple(each for each in reaches_of(*read_file(file, shown)) if each.digest not in known)


def trust(file: Path, reaches: Iterable[Reach]) -> None:
    """Let a file decide this from now on, besides what it says already and is trusted with.

    What it said before, and says no more, would be asked about again. Raises `ConfigurationError`.
    """
    said = {each.digest for each in reaches_of(*read_file(file, str(file)))}
    try:
        _write(file, (_read(_kept_in(file)) & said) | {each.digest for each in reaches})
    except OSError as error:
        raise ConfigurationError(f"{_kept_in(file)}: can't be written: {error.strerror or error}") from error


def revoke(file: Path) -> bool:
    """Trust a file no more; whether it was trusted."""
    try:
        _kept_in(file).unlink()
    except FileNotFoundError:
        return False
    return True


def trusted_files() -> Iterator[Path]:
    """The files that are trusted with anything, also those that are gone."""
    folder = _folder()
    for each in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        found = _loaded(each)
        if found is not None:
            yield Path(found["file"])


def _folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("lash", appauthor=False) / "trusted"


def _place(file: Path) -> str:
    """Where it is, behind all links to its folder. It may be a link itself: to another one's text, in this folder."""
    return str(file.parent.resolve() / file.name)


def _kept_in(file: Path) -> Path:
    return _folder() / f"{hashlib.sha256(os.fsencode(_place(file))).hexdigest()[:32]}.json"


def _is_below(file: Path, folders: str) -> bool:
    place = file.parent.resolve()
    named = [Path(each).expanduser() for each in folders.split(os.pathsep)]
    # One that is relative would trust wherever somebody is.
    return any(place.is_relative_to(each.resolve()) for each in named if each.is_absolute())


def _is_new_database(file: Path, reach: Reach) -> bool:
    """Whether the setting names one in memory, or beside the file where there is none yet, nor what one had left."""
    if reach.path == ("store",) and reach.value in ("sqlite://", "sqlite:///:memory:"):
        return True
    named = re.fullmatch(r"sqlite:///(\w[\w.-]*)", str(reach.value)) if reach.path == ("store",) else None
    if named is None:
        return False
    folder = file.resolve().parent
    return not any(os.path.lexists(folder / f"{named[1]}{end}") for end in ("", "-wal", "-shm", "-journal"))


def _read(kept: Path) -> frozenset[str]:
    """The digests that are in a file of ours; none where it is broken, or somebody else's."""
    found = _loaded(kept)
    return frozenset(found["trusted"]) if found is not None and _kept_in(Path(found["file"])) == kept else frozenset()


def _loaded(kept: Path) -> Mapping[str, Any] | None:
    try:
        descriptor = os.open(kept, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123  # it is open
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_mine(status):
            return None
        data = file.read(_LARGEST + 1)
    try:
        found = json.loads(data)
        fits = found["version"] == _VERSION and isinstance(found["file"], str) and isinstance(found["trusted"], list)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if fits and all(isinstance(each, str) for each in found["trusted"]) else None


def _is_mine(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(file: Path, digests: Iterable[str]) -> None:
    from tempfile import NamedTemporaryFile

    kept = _kept_in(file)
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps({"version": _VERSION, "file": _place(file), "trusted": sorted(digests)}, indent=2)
    made = NamedTemporaryFile("w", dir=kept.parent, prefix=".", delete=False, encoding="utf-8")  # noqa: SIM115  # below
    try:
        with made:
            made.write(f"{text}\n")
        Path(made.name).replace(kept)  # closed: Windows moves no file that is open
    except BaseException:
        Path(made.name).unlink(missing_ok=True)
        raise
