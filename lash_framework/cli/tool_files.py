"""`--tools FILE.py`: tools out of a Python file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from lash_hookspecs.errors import ConfigurationError

__all__ = ["load_tools"]


def load_tools(files: Sequence[str]) -> list[Any]:
    """The tools of these files: what `@tool` made in them, and what their list `TOOLS` holds.

    Raises `ConfigurationError` that names file and line for a file that can't be imported or has no tools.
    """
    found: dict[str, tuple[Any, str]] = {}
    for file in files:
        tools = list(_tools_of(_imported(Path(file).expanduser(), file)))
        if not tools:
            raise ConfigurationError(
                f"--tools {file}: no tools in it: mark functions with `@tool` (from lash_hookspecs import tool), "
                "or list them in `TOOLS`"
            )
        for tool in tools:
            name = tool.manifest.name
            if name in found and found[name][0] is not tool:
                raise ConfigurationError(f"--tools {file}: the tool `{name}` is in `{found[name][1]}` already")
            found[name] = (tool, file)
    return [tool for tool, _ in found.values()]


def _tools_of(module: ModuleType) -> Iterator[Any]:
    from lash_hookspecs.toolkit import FunctionTool

    made = [each for each in vars(module).values() if isinstance(each, FunctionTool)]
    listed = [each for each in getattr(module, "TOOLS", ()) if not any(each is tool for tool in made)]
    for each in (*made, *listed):
        if isinstance(each, FunctionType):
            yield FunctionTool(each)
        elif hasattr(each, "manifest") and hasattr(each, "call"):
            yield each
        else:
            raise ConfigurationError(f"--tools {module.__file__}: `TOOLS` holds {each!r}, which is no tool")


def _imported(path: Path, shown: str) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"--tools {shown}: no such file")
    name = f"lash_tools_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"--tools {shown}: not a Python file (its name must end in .py)")
    module = module_from_spec(spec)
    # As for a script: modules beside the file can be imported; annotations are looked up in `sys.modules`.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        where = f"{error.filename or shown}:{error.lineno}"
        raise ConfigurationError(f"--tools {shown}: {where}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [each.lineno for each in frames if Path(each.filename).resolve() == path.resolve()]
        where = f"{shown}:{lines[-1]}" if lines else shown
        raise ConfigurationError(f"--tools {where}: {type(error).__name__}: {error}") from error
    return module
