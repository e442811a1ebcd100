"""What code costs to import, seen from outside."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["imported_by"]


def imported_by(code: str) -> frozenset[str]:
    """The modules that a new interpreter has loaded when it has run `code`.

    A plugin's entry point is imported at every start of every command, so it should load nothing that only its work
    needs::

        assert not {"attrs", "httpx"} & imported_by("import my_plugin.plugin")
    """
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.splitlines()[-1].split())
