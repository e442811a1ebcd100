"""Make the environment in which the tests find independent implementations of the services' protocols.

It stands apart because those packages pin their own web frameworks. `python .ci/gateway.py FOLDER` makes it once, for
all environments of tox.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("llmock", "mock-ai-api")


def main(folder: Path) -> None:
    """Make the environment, unless it is there. It gets its name when it is whole: several may make it at once."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        made = Path(scratch, "made")
        venv.create(made, with_pip=True)
        python = made / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-qq", *PACKAGES], check=True)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another one was quicker
                raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
