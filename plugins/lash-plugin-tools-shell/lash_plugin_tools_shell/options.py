"""What the plugin says of itself, and what a user may set in `[plugin.tools-shell]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs.option_checks import above
from lash_hookspecs.plugins import Examined, PluginCapability, PluginInfo
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["INFO", "SANDBOXES", "ShellOptions"]

_WHERE = "plugin.tools-shell"
SANDBOXES = ("none", "bwrap", "auto")


def _folders(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value or not all(value):
        raise ValueError(f'`{_WHERE}.roots` is {list(value)!r}; name at least one folder, such as ["."]')


def _below(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    wrong = [each for each in value if not each.strip("./") or each.startswith("/") or ".." in each.split("/")]
    if wrong:
        raise ValueError(f"`{_WHERE}.{attribute.name}`: {wrong[0]!r} is no path below a root")


def _sandbox(instance: object, attribute: Attribute[Any], value: str) -> None:
    if value not in SANDBOXES:
        raise ValueError(f"`{_WHERE}.sandbox` is {value!r}; it is one of {', '.join(map(repr, SANDBOXES))}")


@frozen(kw_only=True)
class ShellOptions:
    """Where commands run, what they are given, and their limits.

    `roots`: folders that a command may be started in; the first is where it is without a word. `shell`: the program
    that reads commands. `env_allow`: names of variables, with `*`, that commands are given of lash's own; `env`: more
    of them. `timeout_s`: for a command that says nothing else, `max_timeout_s`: the most that it may say. `grace_s`:
    how long a command has between the signals TERM and KILL. `max_processes`: of one command, all that it starts among
    them. `max_running`: commands at a time, over all sessions. `max_kept_bytes`: of a command's output, its end;
    `max_output_bytes`: after so many it is stopped. `max_memory_bytes`, `max_file_bytes`: of each process.
    `background`: whether there are commands that go on. `sandbox`: `none`, `bwrap` (which must work here) or `auto` (if
    it does); in it, `network` says whether there is any, `writable` which folders are besides the roots, `protected`
    which names below them can't be changed or made, `hidden` which folders are empty, or which files can't be opened.
    """

    roots: tuple[str, ...] = field(default=(".",), validator=_folders)
    shell: str = "bash"
    env_allow: tuple[str, ...] = (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "VIRTUAL_ENV",
    )  # fmt: skip
    env: Mapping[str, str] = field(factory=dict)
    timeout_s: float = field(default=120.0, validator=above(0))
    max_timeout_s: float = field(default=600.0, validator=above(0))
    grace_s: float = field(default=2.0, validator=above(0))
    max_processes: int = field(default=256, validator=above(0))
    max_running: int = field(default=16, validator=above(0))
    max_kept_bytes: int = field(default=64 * 1024, validator=above(0))
    max_output_bytes: int = field(default=64 * 1024 * 1024, validator=above(0))
    max_memory_bytes: int | None = field(default=None, validator=above(0))
    max_file_bytes: int | None = field(default=None, validator=above(0))
    background: bool = True
    sandbox: str = field(default="auto", validator=_sandbox)
    network: bool = True
    writable: tuple[str, ...] = ()
    # What programs outside read by themselves, and do as it says, once somebody enters or opens the folder.
    # The tools for files have the same, which a test compares.
    protected: tuple[str, ...] = field(
        default=(".git", "HEAD", ".hg", ".svn", ".lash", "lash.toml", "lash.lock", ".envrc", ".vscode", ".idea"),
        validator=_below,
    )
    hidden: tuple[str, ...] = (
        "~/.ssh",
        "~/.gnupg",
        "~/.aws",
        "~/.azure",
        "~/.config/gcloud",
        "~/.config/gh",
        "~/.kube",
        "~/.netrc",
        "/run/user",
        "/run/docker.sock",
    )


def _examined(options: ShellOptions) -> Sequence[Examined]:
    from lash_plugin_tools_shell.needs import require_process_groups

    require_process_groups()
    from lash_plugin_tools_shell.sandbox import examined

    return examined(options)


INFO = PluginInfo(
    id="tools-shell",
    summary="Runs commands, with limits, and ends what they leave.",
    options=ShellOptions,
    capabilities=frozenset({PluginCapability.SUBPROCESS, PluginCapability.FILESYSTEM, PluginCapability.NETWORK}),
    enabled_by_default=False,
    examine=_examined,
)
