"""What can be seen of a plugin without a host: which hooks it has, and what it loads to be discovered."""

from __future__ import annotations

import subprocess
import sys

import pluggy

from lash_hookspecs import specs

__all__ = ["hooks_of", "imported_by"]


def hooks_of(plugin: object) -> frozenset[str]:
    """The names of the hooks that a plugin implements.

    Raises `pluggy.PluginValidationError` for one that isn't the contract's, or wants an argument that it lacks.
    """
    manager = pluggy.PluginManager("lash")
    manager.add_hookspecs(specs)
    manager.register(plugin)
    manager.check_pending()
    return frozenset(caller.name for caller in manager.get_hookcallers(plugin) or ())


def imported_by(code: str) -> frozenset[str]:
    """The modules that a new interpreter has loaded when it has run `code`.

    A plugin's entry point is imported at every start of every command, so it should load nothing that only its work
    needs::

        assert not {"attrs", "httpx"} & imported_by("import my_plugin.plugin")
    """
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.splitlines()[-1].split())
