"""Settings: every key in every source, who wins, and messages that point at the place of a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lash_framework.settings import (
    KEYS,
    MODE_KEYS,
    TABLES,
    Rank,
    Settings,
    default_store,
    environment_name,
    load_settings,
    redacted_url,
)
from lash_framework.settings.sources import LARGEST, key_lines, split_setting, toml_value
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.prompts import PromptSlot

DOCS = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"

# For each key: what to write, and what comes of it.
SAMPLES: dict[str, tuple[str, object]] = {
    "store": ('"sqlite:////tmp/x.db"', "sqlite:////tmp/x.db"),
    "model": ('"openai-chat:gpt-5"', "openai-chat:gpt-5"),
    "mode": ('"review"', "review"),
    "instructions": ('"Be brief."', "Be brief."),
    "max_turns": ("7", 7),
    "generation.output_token_cap": ("100", 100),
    "generation.temperature": ("1", 1.0),
    "generation.seed": ("3", 3),
    "generation.stop_sequences": ('["a", "b"]', ("a", "b")),
    "budget.max_cost": ("0.5", 0.5),
    "budget.max_tokens": ("5000", 5000),
    "budget.session_max_cost": ("10", 10.0),
    "budget.session_max_tokens": ("100000", 100000),
    "durability.effects": ('"inline"', "inline"),
    "durability.recover": ("false", False),
    "durability.lease_ttl_s": ("5", 5.0),
    "durability.keep_journal_h": ("24", 24.0),
    "durability.partial_text": ('"keep"', "keep"),
    "context.compact_at": ("0.5", 0.5),
    "observers.ring": ("16", 16),
    "plugins.disabled": ('["a", "b"]', ("a", "b")),
    "plugins.only": ('["a"]', ("a",)),
    "plugins.lock": ('"off"', "off"),
    "plugins.lock_versions": ("true", True),
}


def value_of(settings: Settings, path: str) -> object:
    value: object = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def load(folder: Path, toml: str = "", **options: object) -> Settings:
    (folder / "lash.toml").write_text(toml, encoding="utf-8")
    env = {"LASH_TRUSTED": str(folder), **options.pop("env", {})}  # type: ignore[dict-item]  # it is a mapping
    return load_settings(**{"cwd": folder, "env": env, **options})  # type: ignore[arg-type]  # as a caller writes it


def test_there_is_a_sample_for_every_key() -> None:
    assert list(SAMPLES) == [each.path for each in KEYS]


# ---- every key in every source --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SAMPLES)
def test_every_key_is_read_from_every_source(path: str, tmp_path: Path) -> None:
    text, value = SAMPLES[path]
    from_file = load(tmp_path, f"# a comment\n\n{path} = {text}\n")
    assert (value_of(from_file, path), from_file.source_of(path)) == (value, "lash.toml:3")
    variable = environment_name(path)
    from_env = load(tmp_path, env={variable: text.strip('"')})
    assert (value_of(from_env, path), from_env.source_of(path)) == (value, f"env {variable}")
    from_set = load(tmp_path, sets=[f"{path}={text}"] if text[0] != '"' else [f"{path}={text[1:-1]}"])
    assert (value_of(from_set, path), from_set.source_of(path)) == (value, f"--set {path}")


@pytest.mark.parametrize("path", SAMPLES)
def test_the_command_line_beats_the_environment_which_beats_the_file(path: str, tmp_path: Path) -> None:
    text, _ = SAMPLES[path]
    plain = text.strip('"')
    settings = load(tmp_path, f"{path} = {text}\n", env={environment_name(path): plain})
    assert settings.source_of(path) == f"env {environment_name(path)}"
    settings = load(tmp_path, f"{path} = {text}\n", env={environment_name(path): plain}, sets=[f"{path}={plain}"])
    assert settings.source_of(path) == f"--set {path}"


def test_without_any_source_there_are_defaults(tmp_path: Path) -> None:
    settings = load_settings(cwd=tmp_path, env={})
    assert settings == Settings()
    assert (settings.store, settings.model, settings.mode) == (default_store(), None, "standard")
    assert settings.generation == GenerationOptions()
    assert settings.source_of("model") == "default"
    assert settings.store.startswith("sqlite:////")
    assert settings.store.endswith("/lash/lash.db")


def test_options_have_the_name_of_their_option_as_source(tmp_path: Path) -> None:
    settings = load(tmp_path, 'model = "a:b"', options={"model": "c:d", "mode": None})
    assert (settings.model, settings.source_of("model"), settings.source_of("mode")) == ("c:d", "--model", "default")


def test_code_overrides_and_says_so(tmp_path: Path) -> None:
    settings = load(tmp_path, 'model = "a:b"').override("code", model="c:d", mode=None)
    assert (settings.model, settings.mode) == ("c:d", "standard")
    assert settings.origin_of("model").rank is Rank.CALLER
    with pytest.raises(ConfigurationError, match="unknown setting `modle`: did you mean"):
        settings.override("code", modle="x")


SOURCES = {
    "a table that only an option names a member of": (
        "",
        {"sets": ["provider.openai-chta.base_url=x"]},
        "provider.openai-chta",
        "--set provider.openai-chta.base_url",
    ),
    "a table beside another": (
        "[provider.a]\nx = 1",
        {"sets": ["provider.b.x=1"]},
        "provider.b",
        "--set provider.b.x",
    ),
    "a mode that only a variable names": (
        "",
        {"env": {"LASH_MODES__Q__EXTENDS": "x"}},
        "modes.q",
        "env LASH_MODES__Q__EXTENDS",
    ),
    "the strongest member": (
        "",
        {"env": {"LASH_MODES__Q__EXTENDS": "x"}, "sets": ["modes.q.max_turns=2"]},
        "modes.q",
        "--set modes.q.max_turns",
    ),
    "a key that isn't set in a table that is": ("[plugins]\ndisabled = ['a']", {}, "plugins.only", "default"),
    "the key that is": ("[plugins]\ndisabled = ['a']", {}, "plugins.disabled", "lash.toml:2"),
    "a member of a value": ("[provider.a]\nx = { y = 1 }", {}, "provider.a.x.y", "lash.toml:2"),
}


@pytest.mark.parametrize("case", SOURCES, ids=str)
def test_the_source_is_of_what_was_really_written(case: str, tmp_path: Path) -> None:
    toml, others, path, source = SOURCES[case]
    assert load(tmp_path, toml, **others).source_of(path) == source


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, 'model = "a:b"', env={"LASH_MODEL": ""}).model == "a:b"


def test_a_misspelt_variable_is_a_warning(tmp_path: Path) -> None:
    settings = load(tmp_path, env={"LASH_MODLE": "x", "LASH_TEST_ANYTHING": "1", "LASHING": "1"})
    assert settings.warnings == ("env LASH_MODLE is no setting: did you mean `LASH_MODE`?",)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_the_nearest_file_upwards_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "lash.toml").write_text('model = "outer:x"\nstore = "sqlite:///agent.db"\n')
    settings = load_settings(cwd=inner, env={})
    assert (settings.model, settings.file) == ("outer:x", tmp_path / "lash.toml")
    assert settings.source_of("model") == f"{tmp_path / 'lash.toml'}:1"
    assert settings.store == f"sqlite:///{tmp_path.resolve() / 'agent.db'}", "relative to the file, not to the caller"
    (tmp_path / "home.toml").write_text('store = "sqlite:///~/agent.db"\n[plugins]\nlock = "~/lash.lock"\n')
    homely = load_settings(tmp_path / "home.toml", env={})
    assert (homely.store, homely.plugins.lock) == ("sqlite:///~/agent.db", "~/lash.lock")
    (inner / "lash.toml").write_text('model = "inner:x"\n')
    assert load_settings(cwd=inner, env={}).model == "inner:x"


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('model = "other:x"\n')
    assert load(tmp_path, 'model = "a:b"', config="other.toml").source_of("model") == "other.toml:1"
    assert load(tmp_path, 'model = "a:b"', env={"LASH_CONFIG": "other.toml"}).model == "other:x"


TOML = '''
# model = "no"
"mode" = "x"   # [not.a.header]
instructions = """
max_turns = 1
"""
[ plugins ]
disabled = [
  "a", # ]
  "b",
]
only = ["c"]
[provider."openai-chat"]
headers = { a = "[", b = "{" }
base_url = 'x = "y'
nested.deep = 1
[[modes.review.prompt]]
content = "a"
[[modes.review.prompt]]
content = "b"
'''
LINES = {
    ("mode",): 3,
    ("instructions",): 4,
    ("plugins",): 7,
    ("plugins", "disabled"): 8,
    ("plugins", "only"): 12,
    ("provider", "openai-chat"): 13,
    ("provider", "openai-chat", "headers"): 14,
    ("provider", "openai-chat", "base_url"): 15,
    ("provider", "openai-chat", "nested", "deep"): 16,
    ("modes", "review", "prompt"): 17,
    ("modes", "review", "prompt", "0"): 17,
    ("modes", "review", "prompt", "0", "content"): 18,
    ("modes", "review", "prompt", "1"): 19,
    ("modes", "review", "prompt", "1", "content"): 20,
}


def test_the_line_of_each_key_is_found() -> None:
    assert key_lines(TOML) == LINES
    assert key_lines(TOML.replace("\n", "\r\n")) == LINES


MISTAKES = {
    "unknown key": ("modle = 1", "lash.toml:1: unknown setting `modle`: did you mean `mode`?"),
    "unknown in group": (
        "[generation]\nsede = 1",
        "lash.toml:2: unknown setting `generation.sede`: did you mean `generation.seed`?",
    ),
    "unknown in mode": (
        "[modes.x]\nextend = 1",
        "lash.toml:2: unknown setting `modes.x.extend`: did you mean `extends`?",
    ),
    "unknown in a mode's generation": (
        "[modes.x.generation]\nsede = 1",
        "lash.toml:1: unknown setting `modes.x.generation.sede`: did you mean `seed`?",
    ),
    "type": ("\n\nmodel = 3", "lash.toml:3: `model` must be text, not a whole number"),
    "type of a list": ('plugins.disabled = "a"', "lash.toml:1: `plugins.disabled` must be an array, not text"),
    "type in a list": ("plugins.only = [1]", "lash.toml:1: `plugins.only[0]` must be text, not a whole number"),
    "no number": ("max_turns = true", "lash.toml:1: `max_turns` must be a whole number, not true or false"),
    "too small": ("max_turns = 0", "lash.toml:1: `max_turns` must be at least 1"),
    "too large": ("max_turns = 18446744073709551616", "lash.toml:1: `max_turns` must have no more than 64 bits"),
    "no table": ("provider = 1", "lash.toml:1: `provider` must be a table"),
    "no inner table": ("[provider]\nx = 1", "lash.toml:2: `provider.x` must be a table"),
    "group as value": ("plugins = 1", "lash.toml:1: `plugins` must be a table"),
    "mode's type": ("[modes.x]\nplugins = 1", "lash.toml:2: `modes.x.plugins` must be an array, not a whole number"),
    "mode's minimum": ("[modes.x]\nmax_turns = 0", "lash.toml:2: `modes.x.max_turns` must be at least 1"),
    "prompt": ("[modes.x]\nprompt = 1", "lash.toml:2: `modes.x.prompt` must be text, or a table with `content`"),
    "prompt's slot": (
        '[modes.x]\nprompt = { content = "a", slot = "no" }',
        "lash.toml:2: `modes.x.prompt.slot` must be `intro`, `execution`",
    ),
    "prompt's key": (
        '[modes.x]\nprompt = { content = "a", titel = "no" }',
        "lash.toml:2: `modes.x.prompt` has the unknown key `titel`: did you mean `title`?",
    ),
    "syntax": ("a = \nb = 1", "lash.toml: Invalid value (at line 1, column 5)"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_a_file_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    toml, says = MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, toml)
    assert str(caught.value).startswith(says)


def test_a_folder_of_the_files_name_is_passed_over(tmp_path: Path) -> None:
    """A sandbox mounts one, lest a command makes the file; whoever starts there meanwhile sees it."""
    (tmp_path / "lash.toml").write_text("max_turns = 7")
    (tmp_path / "sub" / "lash.toml").mkdir(parents=True)
    assert load_settings(cwd=tmp_path / "sub", env={}).max_turns == 7


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Notepad writes one: `Invalid statement (at line 1, column 1)`."""
    (tmp_path / "lash.toml").write_bytes(b"\xef\xbb\xbfmax_turns = 7\r\n")
    assert load_settings(cwd=tmp_path, env={}).max_turns == 7


def test_a_file_that_is_no_text_is_named_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "lash.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=r"lash.toml: not UTF-8 text \(byte 5\)"):
        load_settings(cwd=tmp_path, env={})


OTHER_MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "env type": (
        {"env": {"LASH_MAX_TURNS": "many"}},
        "env LASH_MAX_TURNS: `max_turns` must be a whole number, not text",
    ),
    "env minimum": ({"env": {"LASH_MAX_TURNS": "0"}}, "env LASH_MAX_TURNS: `max_turns` must be at least 1"),
    "env mode": (
        {"env": {"LASH_MODES__X__EXTEND": "y"}},
        "env LASH_MODES__X__EXTEND: unknown setting `modes.x.extend`: did you mean `extends`?",
    ),
    "set type": ({"sets": ["generation.seed=x"]}, "--set generation.seed: `generation.seed` must be a whole number"),
    "set unknown": ({"sets": ["sore=x"]}, "--set sore: unknown setting `sore`: did you mean `store`?"),
    "set table": ({"sets": ["modes.x={}"]}, "--set modes.x: `modes.x` is a table; name a key in it"),
    "set group": ({"sets": ["plugins=x"]}, "--set plugins: `plugins` is a table; name a key in it"),
    "set without value": ({"sets": ["model"]}, "--set `model`: expected `--set key.of.setting=value`"),
    "set without key": ({"sets": ["=secret"]}, "--set ``: expected"),
    "set with a bad key": ({"sets": ["a b=secret"]}, "--set `a b`: expected"),
    "config": ({"config": "nope.toml"}, "nope.toml: can't be read: No such file or directory"),
}


@pytest.mark.parametrize("case", OTHER_MISTAKES)
def test_a_mistake_elsewhere_is_named_with_its_source(case: str, tmp_path: Path) -> None:
    options, says = OTHER_MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "", **options)
    assert str(caught.value).startswith(says)
    assert "secret" not in str(caught.value)


# ---- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('{a = "b"}', {"a": "b"}),
        ('"5"', "5"),
        ("https://x", "https://x"),
        ("", ""),
        ("1\nb = 2", "1\nb = 2"),
        ("a = b", "a = b"),
    ],
)
def test_a_text_is_toml_or_itself(text: str, value: object) -> None:
    assert toml_value(text) == value


def test_a_set_is_split_at_its_first_equals_sign() -> None:
    assert split_setting("a.b-c=d=e") == (("a", "b-c"), "d=e")
    assert split_setting('a."b.c" = x') == (("a", "b.c"), " x")


# ---- modes, tables, secrets -----------------------------------------------------------------------------------------


def test_a_mode_is_made_of_its_table(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [modes.review]
        extends = "standard"
        plugins = ["plan"]
        without = ["shell"]
        options = { strict = true }
        max_turns = 4
        summary = "Reads."
        generation.temperature = 0
        prompt = ["Be strict.", { content = "Hello.", slot = "intro", title = "T", priority = 2, tools = ["read"] }]
        """,
        env={"LASH_MODES__REVIEW__MAX_TURNS": "5"},
        sets=["modes.review.generation.seed=7", "modes.review.options.depth=2", "modes.quick.extends=review"],
    )
    mode = settings.modes["review"]
    assert (mode.mode_id, mode.extends, mode.plugins, mode.without) == ("review", "standard", ("plan",), ("shell",))
    assert (mode.options, mode.max_turns, mode.summary) == ({"strict": True, "depth": 2}, 5, "Reads.")
    assert mode.generation == GenerationOptions(temperature=0.0, seed=7)
    [strict] = mode.prompt.slots[PromptSlot.GUIDANCE].contributions
    [hello] = mode.prompt.slots[PromptSlot.INTRO].contributions
    assert strict.content == "Be strict."
    assert (hello.title, hello.priority, hello.tools) == ("T", 2, frozenset({"read"}))
    assert settings.modes["quick"].extends == "review"
    assert settings.source_of("modes.review.max_turns") == "env LASH_MODES__REVIEW__MAX_TURNS"
    assert settings.source_of("modes.review") == "lash.toml:2"


def test_tables_merge_by_key_and_find_the_owner_with_hyphens(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[provider.openai-chat]\nbase_url = "a"\n[provider.my_own]\nx = 1\n[plugin.plan]\ndepth = 1\n'
        "[store_options]\nsynchronous = 'NORMAL'\n",
        env={
            "LASH_PROVIDER__OPENAI_CHAT__API_KEY": "123",
            "LASH_PROVIDER__MY_OWN__Y": "2",
            "LASH_PLUGIN__PLAN__DEPTH": "2",
            "LASH_STORE_OPTIONS__READERS": "4",
        },
        sets=["provider.openai-chat.headers.x=1"],
    )
    assert settings.provider == {
        "openai-chat": {"base_url": "a", "api_key": 123, "headers": {"x": 1}},
        "my_own": {"x": 1, "y": 2},
    }
    assert settings.text_of("provider.openai-chat.api_key") == "123"
    assert settings.plugin == {"plan": {"depth": 2}}
    assert settings.store_options == {"synchronous": "NORMAL", "readers": 4}


def test_no_secret_is_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'store = "postgresql://me:hunter2@db/x"\n[provider.p]\napi_key = "hunter2"\nheaders = { x = "hunter2" }\n'
        'pass = "hunter2"\nplain = "shown"\nurl = "https://me:hunter2@x/y"\n[store_options]\npassword = "hunter2"\n',
    )
    rows = list(settings.rows(secrets={"provider.p.pass"}))
    assert "hunter2" not in repr(settings) + repr(rows)
    assert ("provider.p.plain", "shown", "lash.toml:6") in rows
    assert ("store", "postgresql://me:***@db/x", "lash.toml:1") in rows


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////a/b@c:d.db", "sqlite:////a/b@c:d.db"),
        ("postgresql://me:pw@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p?w@host/db?x=1", "postgresql://me:***@host/db?x=1"),
        ("postgresql://host/db?sslmode=require&password=pw", "postgresql://host/db?sslmode=require&password=***"),
        ("https://gateway/v1?key=pw&x=1", "https://gateway/v1?key=***&x=***"),
        ("https://gateway/v1?pw", "https://gateway/v1?***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


# ---- the contract with start-up and documentation -------------------------------------------------------------------


BLANKS = " " * 200_000
MADE_TO_LAST = {
    "blanks": (f"{BLANKS}\na = 1\n", {("a",): 2}),
    "blanks before a comment": (f"{BLANKS}# a\nb = 1\n", {("b",): 2}),
    "blanks around a key": (f"{BLANKS}a{BLANKS}.{BLANKS}'b'{BLANKS}= 1\n", {("a", "b"): 1}),
    "blanks around a header": (f"{BLANKS}[{BLANKS}a{BLANKS}]{BLANKS}# b\n", {("a",): 1}),
}


@pytest.mark.parametrize(("text", "lines"), MADE_TO_LAST.values(), ids=MADE_TO_LAST)
def test_a_file_that_was_found_takes_no_longer_than_it_is_long(text: str, lines: dict[tuple[str, ...], int]) -> None:
    """A row of blanks in a cloned folder's file kept each `lash` in it from ever coming to anything."""
    assert key_lines(text) == lines


def test_a_file_that_is_nested_too_deep_or_too_large_is_refused(tmp_path: Path) -> None:
    """The one was told as a bug of lash, the other filled the memory."""
    file = tmp_path / "lash.toml"
    file.write_text(f"plugin.p.x = {'[' * 5_000}{']' * 5_000}")
    with pytest.raises(ConfigurationError, match=r"lash\.toml: its tables and arrays are nested too deep"):
        load_settings(cwd=tmp_path, env={})
    with file.open("wb") as opened:
        opened.truncate(LARGEST + 1)
    with pytest.raises(ConfigurationError, match=r"lash.toml: it has more than 4,194,304 bytes"):
        load_settings(cwd=tmp_path, env={})


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "lash.toml").write_text('[modes.x]\nextends = "standard"\nprompt = "p"\n[generation]\nseed = 1\n')
    program = (
        "import sys; from lash_framework.settings import load_settings; load_settings();"
        "sys.exit(str([each for each in ('cattrs', 'httpx', 'anyio', 'pluggy', 'rich') if each in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_every_key_and_its_variable_is_documented() -> None:
    text = DOCS.read_text()
    for key in KEYS:
        assert f"| `{key.path}` | `{environment_name(key.path)}` |" in text
        assert key.help in text
    for table in TABLES:
        assert table.help in text
    for name, (_, help_text) in MODE_KEYS.items():
        assert f"| `{name}` |" in text
        assert help_text in text
