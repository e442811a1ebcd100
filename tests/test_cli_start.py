"""How much `lash run` loads before its first request; the clock is read in `bench/`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
from cli_kit import Cli

REACHED_LATER = """
    archive compacting emitted_traces explain forking open_calls other_sessions pending prefix_changes
    prepare_context recorded_costs recorded_only recovery replaying schema_faults schemas session_requests session_view
    structured successors sync tool_batch tool_calls tool_deferrals tool_directives tool_fold tool_hooks tool_pauses
    tool_retries turn_commit upgrade_check
"""
"""What a first turn comes to after its model was asked, or never: imported by the functions that come to it."""

WATCHED = """
import json, sys
from lash_framework.cli import main

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not seen:
        seen.update(modules=list(sys.modules), constructors=list(constructors()))

def constructors():
    for name, module in list(sys.modules.items()):
        for cls in list(vars(module).values()) if name.startswith("lash_") else ():
            if isinstance(cls, type) and cls.__module__ == name and "__attrs_attrs__" in vars(cls):
                if isinstance(vars(cls)["__init__"], type(constructors)):
                    yield f"{name}.{cls.__qualname__}"

seen = {}
sys.addaudithook(watch)
main(sys.argv[1:])
print(json.dumps(seen))
"""


def at_the_first_connection(folder: Path) -> Any:
    lash = Cli(folder)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"
        settings = (f"base_url={url}", "retry=off", "api_key=none")
        options = [f"--set=provider.openai-chat.{each}" for each in settings]
        command = [sys.executable, "-c", WATCHED, "run", "hi", "--model=openai-chat:m", *options]
        done = subprocess.run(command, cwd=folder, env=lash.env(), capture_output=True, text=True, check=False)
    assert "connection refused" in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_the_first_request_can_do_without_comes_later_or_never(tmp_path: Path) -> None:
    """aiohttp takes longer to load than a run of a few calls can save with it.

    The turn is accepted durably and its first record made by then, which cattrs isn't needed for.
    """
    seen = at_the_first_connection(tmp_path)
    assert {"httpx", "lash_framework.journal"} <= set(seen["modules"])
    avoided = {
        "aiohttp",
        "httpx_aiohttp",
        "trio",
        "rich",
        "pygments",
        "prompt_toolkit",
        "email.headerregistry",
        "cattrs",
        "idna.core",
        "tomllib",
        "zipfile",
        "lash_plugin_provider_scripted.provider",
        *(f"lash_framework.{each}" for each in REACHED_LATER.split()),
    }
    assert not avoided & set(seen["modules"])


@pytest.mark.parametrize("kind", ["anthropic", "google", "scripted"])
def test_a_provider_that_is_not_used_has_said_what_it_is_called_and_no_more(kind: str, tmp_path: Path) -> None:
    """Its settings are loaded by who opens it, as all else of it: one more provider costs a start two small modules."""
    package = f"lash_plugin_provider_{kind}"
    code = (
        "import json, sys\n"
        "from lash_framework.host import PluginHost\n"
        "PluginHost()\n"
        f"print(json.dumps([name for name in sys.modules if name.split('.')[0] in ({package!r}, 'lash_provider_kit')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [package, f"{package}.plugin", f"{package}.specs"]


def test_no_class_is_compiled_on_the_way_that_need_not_be(tmp_path: Path) -> None:
    """attrs writes and compiles a constructor for a class in the time in which `values` makes four.

    Left are classes with a base, or with more to them than fields.
    """
    modules = {each for each in at_the_first_connection(tmp_path)["modules"] if each.startswith("lash_")}
    compiled = {
        f"{name}.{cls.__qualname__}"
        for name in modules
        for cls in vars(import_module(name)).values()
        if isinstance(cls, type) and cls.__module__ == name and attrs.has(cls)
        if cls.__init__.__code__.co_filename.startswith("<attrs")  # type: ignore[misc]  # only read
    }
    left = {"implementations.HookImpl", "machine.snapshot.Run"}
    assert compiled <= {
        "lash_hookspecs.contexts.TurnCall",
        "lash_hookspecs.context_hooks.ContextCall",
        *(f"lash_hookspecs.contexts.{each}" for each in ("HostContext", "CompositionContext")),
        "lash_hookspecs.tools.ToolCallContext",
        *(f"lash_framework.{each}" for each in left),
    }


def test_a_constructor_is_made_for_classes_of_which_something_is_made(tmp_path: Path) -> None:
    """That is a third of those that are imported; making all took a fifth of the time of our own imports."""
    at_once = [name for name in at_the_first_connection(tmp_path)["constructors"] if "." in name]
    assert 40 < len(at_once) < 170  # of some 390, one for each installed plugin with a state among them
