"""Make the environment in which the tests find independent implementations of the services' protocols.

It stands apart because those packages pin their own web frameworks. `python .ci/gateway.py FOLDER` makes it once, for
all environments of tox. Those from npm need Node; without it, or where they can't be had, their tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

PACKAGES = ("llmock", "mock-ai-api", "llm-mock-api")
NODE_PACKAGES = ("@copilotkit/aimock",)


def made(folder: Path, packages: Sequence[str], node_packages: Sequence[str]) -> None:
    """Make an environment, with a folder `node` in it, unless it is there.

    It gets its name when it is whole: several may make it at once. What needs Node is left out where npm isn't, or
    fails; the tests of what isn't there are skipped by name.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        new = Path(scratch, "made")
        venv.create(new, with_pip=True)
        python = new / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=True)
        if (npm := which("npm")) is not None:
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", new / "node", *node_packages]
            try:
                subprocess.run(command, check=True, timeout=60)
            except subprocess.SubprocessError as error:
                print(f"the tests that need it are skipped: {error}")
        try:
            new.rename(folder)
        except OSError:
            if not folder.exists():  # else another one was quicker
                raise


if __name__ == "__main__":
    made(Path(sys.argv[1]), PACKAGES, NODE_PACKAGES)
