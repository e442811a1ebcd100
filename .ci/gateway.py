"""Make the environment in which the tests find independent implementations of the services' protocols.

It stands apart because those packages pin their own web frameworks. `python .ci/gateway.py FOLDER` makes it once, for
all environments of tox.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("llmock", "mock-ai-api")


def made(folder: Path, packages: Sequence[str], more: Callable[[Path], None] = lambda folder: None) -> None:
    """Make an environment, unless it is there. It gets its name when it is whole: several may make it at once.

    `more` puts into its folder what else belongs there.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        new = Path(scratch, "made")
        venv.create(new, with_pip=True)
        python = new / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=True)
        more(new)
        try:
            new.rename(folder)
        except OSError:
            if not folder.exists():  # else another one was quicker
                raise


if __name__ == "__main__":
    made(Path(sys.argv[1]), PACKAGES)
