"""A folder that may be used, one beside it that may not, and the tools by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define

from lash_hookspecs import ToolCallContext, ToolError
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.tools import files_tools

CTX = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k")
SECRET = "the-secret-of-outside"

RG = shutil.which("rg", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@define
class World:
    """`outside` holds a secret; `root` may be used."""

    top: Path
    tools: dict[str, Any]

    @property
    def root(self) -> Path:
        return self.top / "root"

    @property
    def outside(self) -> Path:
        return self.top / "outside"

    async def call(self, name: str, **args: Any) -> str:
        said = await self.tools[name].call(CTX, args)
        assert isinstance(said, str)
        return said

    async def said(self, name: str, **args: Any) -> str:
        """What the model reads, whether it worked or not; a failure behind its code."""
        try:
            return await self.call(name, **args)
        except ToolError as error:
            return f"{error.code}: {error}"

    def state_of_outside(self) -> dict[str, Any]:
        """All that is there, as it is."""
        found: dict[str, Any] = {}
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            at = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            found[str(path.relative_to(self.top))] = (at.st_ino, at.st_mode, at.st_nlink, content)
        return found


def world(top: Path, **options: Any) -> World:
    (top / "root" / "sub").mkdir(parents=True, exist_ok=True)
    (top / "root" / "here.txt").write_text("here\n", encoding="utf-8")
    (top / "root" / "sub" / "deep.txt").write_text("deep\n", encoding="utf-8")
    (top / "outside" / "folder").mkdir(parents=True)
    (top / "outside" / "secret.txt").write_text(f"{SECRET}\n", encoding="utf-8")
    (top / "outside" / "folder" / "secret.txt").write_text(f"{SECRET}\n", encoding="utf-8")
    given = {"roots": (str(top / "root"),), "ripgrep": "", **options}
    return World(top, {each.manifest.name: each for each in files_tools(FilesOptions(**given))})


SWAP = """
import os, sys
path, spare, target = sys.argv[1:]
trash = 0

def there():
    global trash
    while True:
        try:
            return os.rename(spare, path)
        except OSError:  # somebody has made one in between
            trash += 1
            os.rename(path, f"{spare}.{trash}")

print("ready", flush=True)
while os.getppid() == {parent}:
    os.rename(path, spare)
    try:
        os.symlink(target, path)
        os.unlink(path)
    except OSError:
        pass
    there()
"""


@contextmanager
def swapping(path: Path, target: Path) -> Iterator[None]:
    """Another process that puts a link to `target` in the place of `path`, and takes it away, as fast as it can."""
    code = SWAP.replace("{parent}", str(os.getpid()))
    spare = path.with_name(f"{path.name}.spare")
    command = [sys.executable, "-I", "-S", "-c", code, str(path), str(spare), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()
