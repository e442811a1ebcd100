"""Make the environment in which the tests find independent implementations of the services' protocols.

It stands apart because those packages pin their own web frameworks. `python .ci/gateway.py FOLDER` makes it once, for
all environments of tox. Those from npm need Node; without it, or where they can't be had, their tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

PACKAGES = ("llmock", "mock-ai-api", "llm-mock-api")
NODE_PACKAGES = ("@copilotkit/aimock",)


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
        if (npm := which("npm")) is not None:
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", made / "node", *NODE_PACKAGES]
            try:
                subprocess.run(command, check=True, timeout=180)
            except subprocess.SubprocessError as error:
                print(f"the tests that need it are skipped: {error}")
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another one was quicker
                raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
