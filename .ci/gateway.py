"""Make the environment in which the tests find an independent implementation of the Chat Completions protocol.

It stands apart because that package pins its own web framework. `python .ci/gateway.py FOLDER` makes it once.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

PACKAGE = "mock-ai-api"


def main(folder: Path) -> None:
    """Make the environment, unless it is there and whole."""
    whole = folder / "whole"
    if not whole.exists():
        venv.create(folder, with_pip=True, clear=True)
        python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-qq", PACKAGE], check=True)
        whole.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
