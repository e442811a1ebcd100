"""What the package offers: complete, sorted, described, and nothing loaded before it is wanted."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
from hookspecs_kit import MODULES

import lash_hookspecs
from lash_hookspecs.specs import HOOKS, HookRunnerKind

each_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
each_hook = pytest.mark.parametrize("name", HOOKS)

# Public by their names, yet not exported, each with the reason.
NOT_EXPORTED = {
    "canonical": {"LEVELS", "plain_json"},  # for the codec
    "contexts": {"binding"},  # for who calls hooks
    "read_only_data": {"read_only_table", "read_only_table_or_none"},  # for the fields of values
    "specs": {"hook", *HOOKS},  # implemented by their names, declared nowhere else
    "turn_effects": {"WaitingEffect"},  # the type of one field
}


def top_level_names(module: ModuleType) -> set[str]:
    """Every public class, function and value that the module itself makes; type variables don't count."""
    names = set()
    nodes = ast.parse(inspect.getsource(module)).body
    for node in [inner for each in nodes for inner in (each.orelse if isinstance(each, ast.If) else [each])]:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_") and not isinstance(getattr(module, name, None), TypeVar)}


@each_module
def test_all_is_what_the_module_makes(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) == top_level_names(module) - NOT_EXPORTED.get(module.__name__.split(".")[1], set())


def test_the_package_offers_every_modules_names() -> None:
    """The table of the package is the modules' `__all__`s, no name in two of them."""
    assert {name: list(names) for name, names in lash_hookspecs._MODULES.items()} == {
        name: list(module.__all__) for name, module in MODULES.items()
    }
    assert lash_hookspecs.__all__ == sorted(name for module in MODULES.values() for name in module.__all__)
    assert lash_hookspecs.__dir__() == lash_hookspecs.__all__


def test_type_checkers_see_the_same_names() -> None:
    """The imports for type checkers are the table again, each name re-exported under itself."""
    (block,) = (each for each in ast.parse(inspect.getsource(lash_hookspecs)).body if isinstance(each, ast.If))
    seen: dict[str, set[str]] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        assert all(alias.name == alias.asname for alias in node.names)
        seen[node.module.removeprefix("lash_hookspecs.")] = {alias.name for alias in node.names}
    assert seen == {name: set(module.__all__) for name, module in MODULES.items()}


def test_every_name_is_the_modules_own() -> None:
    for name, module in MODULES.items():
        for each in module.__all__:
            assert getattr(lash_hookspecs, each) is getattr(module, each), f"{name}.{each}"


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lash_hookspecs' has no attribute 'Mesage'"):
        getattr(lash_hookspecs, "Mesage")  # noqa: B009  # the type checker knows as well


def loaded_by(statement: str) -> set[str]:
    script = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "ours"),
    [
        ("import lash_hookspecs", set()),
        ("from lash_hookspecs import hookimpl", {"markers"}),
        ("from lash_hookspecs import specs", {"specs", "markers", "values", "_plain_values"}),
    ],
)
def test_a_plugin_that_only_needs_the_marker_loads_nothing_else(statement: str, ours: set[str]) -> None:
    """Every plugin is imported at every start, so this is what each of them costs."""
    loaded = loaded_by(statement)
    assert not loaded & {"cattrs", "anyio", "orjson", "hypothesis", "asyncio", "jsonschema_rs"}
    assert {each.split(".")[1] for each in loaded if each.startswith("lash_hookspecs.")} == ours


@pytest.mark.costly
@pytest.mark.parametrize("module", [each for each in MODULES if each != "codec"])
def test_only_the_codec_loads_an_encoder(module: str) -> None:
    assert not loaded_by(f"import lash_hookspecs.{module}") & {"cattrs", "orjson", "anyio", "hypothesis"}


def test_the_codec_makes_its_converter_for_what_it_can_not_read() -> None:
    """It takes longer than all else before a first model call, or before a turn goes on."""
    imports = "from lash_hookspecs.codec import decode, encode; from lash_hookspecs import TokenUsage; "
    assert "cattrs" not in loaded_by(f"{imports}decode(TokenUsage, encode(TokenUsage(input=1)))")
    faulty = "try: decode(TokenUsage, b'[]')\nexcept Exception: pass"
    assert "cattrs" in loaded_by(f"{imports}\n{faulty}")


# ---- words ----------------------------------------------------------------------------------------------------------


def described() -> list[tuple[str, Any]]:
    """Every class and function that is exported, and every public method that a class has itself."""
    found: list[tuple[str, Any]] = []
    for name, module in MODULES.items():
        for each in module.__all__:
            value = getattr(module, each)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.append((f"{name}.{each}", value))
            if inspect.isclass(value):
                found += [
                    (f"{name}.{each}.{key}", member.fget if isinstance(member, property) else member)
                    for key, member in vars(value).items()
                    if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
                ]
    return found


# Named like what they give, in a port that says it as a whole.
SPEAK_FOR_THEMSELVES = re.compile(r"turn_steps\.DriverContextView\.\w+")


@pytest.mark.parametrize(("name", "value"), described(), ids=lambda each: each if isinstance(each, str) else "")
def test_everything_public_says_what_it_is(name: str, value: Any) -> None:
    if SPEAK_FOR_THEMSELVES.fullmatch(name):
        return
    text = inspect.cleandoc(value.__doc__ or "")
    assert text, name
    assert not text.startswith("Method generated by attrs"), name
    assert text[0].isupper() or text[0] in "`(@", text
    assert text.split("\n\n")[0].rstrip()[-1] in ".:)`?", text


@each_module
def test_every_module_opens_with_what_it_is_about(module: ModuleType) -> None:
    assert (module.__doc__ or "").split("\n")[0].rstrip()


# ---- hooks ----------------------------------------------------------------------------------------------------------


@each_hook
def test_every_hook_has_its_rules_and_a_text(name: str) -> None:
    """Who combines the implementations and what an exception does stand beside the text that says when it is called."""
    policy, spec = HOOKS[name], getattr(MODULES["specs"], name)
    assert policy.name == name
    assert name.startswith("lash_")
    assert policy.runner in HookRunnerKind
    assert len(policy.on_error.split()) > 1
    assert len(inspect.cleandoc(spec.__doc__).split()) > 10
    assert hasattr(spec, "lash_spec")
    assert policy.sync is not inspect.iscoroutinefunction(spec) or policy.runner is HookRunnerKind.LIFESPAN
    assert policy.runner is not HookRunnerKind.REGISTER or policy.sync


@each_hook
def test_a_hooks_signature_is_fully_typed(name: str) -> None:
    """The spec is the documentation of the arguments: the names are what implementations ask for."""
    spec = getattr(MODULES["specs"], name)
    signature = inspect.signature(spec)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(
        each.annotation is not each.empty and each.default is each.empty for each in signature.parameters.values()
    )


def test_the_hooks_of_the_module_are_those_of_the_table() -> None:
    in_source = re.findall(r"^(?:async )?def (lash_\w+)", inspect.getsource(MODULES["specs"]), re.MULTILINE)
    assert in_source == list(HOOKS)


@pytest.mark.parametrize("runner", [kind for kind in HookRunnerKind if kind is not HookRunnerKind.FIRST])
def test_every_runner_is_used(runner: HookRunnerKind) -> None:
    assert runner in {policy.runner for policy in HOOKS.values()}


def test_a_spec_is_never_run() -> None:
    with pytest.raises(NotImplementedError):
        MODULES["specs"].lash_plugin_info()


def test_the_package_is_typed() -> None:
    assert (Path(lash_hookspecs.__file__).parent / "py.typed").exists()


def test_the_errors_are_the_tree_that_is_drawn() -> None:
    """The drawing at the top of the module is the classes and their bases, no more and no fewer."""
    errors = importlib.import_module("lash_hookspecs.errors")
    drawn: dict[str, str] = {}
    parents = [""]
    for line in (errors.__doc__ or "").split("\n"):
        if found := re.match(r"    ((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)", line):
            depth = len(found[1]) // 4 + ("──" in line)
            parents[depth:] = [found[2]]
            drawn[found[2]] = parents[depth - 1] if depth else "Exception"
    classes = {name: getattr(errors, name) for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert drawn == {name: cls.__base__.__name__ for name, cls in classes.items()}
