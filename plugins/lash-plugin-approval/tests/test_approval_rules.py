"""Rules and patterns, without a turn: which rule decides, and what no pattern lets through."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lash_plugin_approval import project
from lash_plugin_approval.calls import MOST_DEEP, MOST_LEAVES, MOST_NAMED, MOST_PLACES, Facts, leaves, places
from lash_plugin_approval.lines import LONGEST_COMMAND, MOST_MEMBERS
from lash_plugin_approval.options import ApprovalOptions, Rule
from lash_plugin_approval.patterns import fits, path_fits, path_matcher, text_matcher, visible
from lash_plugin_approval.rules import ruled


@pytest.fixture(autouse=True)
def _own_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own approvals are read or written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def facts(options: ApprovalOptions, tool: str, args: dict[str, Any], **more: Any) -> Facts:
    found = leaves(args)
    return Facts(
        tool=tool,
        args=args,
        leaves=found,
        places=places(found, options.path_arguments, os.path.abspath(options.root)),  # noqa: PTH100
        **{"owner": "tools", "effect": "unsafe", **more},
    )


def decided(options: ApprovalOptions, tool: str, args: dict[str, Any] | None = None, **more: Any) -> tuple[str, str]:
    found = ruled(options, facts(options, tool, args or {}, **more))
    return found.decision, found.rule


def rules(*made: dict[str, Any], **options: Any) -> ApprovalOptions:
    return ApprovalOptions(rules=tuple(Rule(**each) for each in made), **options)


READ = {"tool": "read_*", "decide": "allow", "name": "reading"}
GIT = {"tool": "shell", "args": {"command": "git status*"}, "decide": "allow", "name": "git"}
RM = {"tool": "shell", "args": {"command": "*rm *"}, "decide": "deny", "name": "rm"}
RM_RF = {**RM, "args": {"command": "rm -rf*"}}
LOOK = {"tool": "shell", "decide": "ask", "name": "look", "always": False}
SRC = {"tool": "write", "path": ("src/**",), "decide": "allow", "name": "src"}
ALL = {"tool": "write", "path": ("**",), "decide": "allow", "name": "everything here"}
SECRET = {"path": ("secrets/**", ".env"), "decide": "deny", "name": "secret"}
ETC = {"path": ("/etc/**",), "decide": "deny", "name": "etc"}


@pytest.mark.parametrize(
    ("made", "tool", "args", "came"),
    [
        ([READ], "read_file", {}, ("allow", "reading")),
        ([READ], "write", {}, ("ask", "default")),
        ([GIT], "shell", {"command": "git status -s"}, ("allow", "git")),
        ([GIT, RM], "shell", {"command": "rm -rf x"}, ("deny", "rm")),
        ([GIT, LOOK], "shell", {"command": "git status"}, ("ask", "look")),
        ([LOOK, GIT], "shell", {"command": "git status"}, ("ask", "look")),
        ([{"effect": "idempotent", "decide": "deny"}], "x", {}, ("ask", "default")),
        ([{"owner": "tools", "decide": "allow"}], "x", {}, ("allow", "rule 1")),
        ([{"owner": "other", "decide": "allow"}], "x", {}, ("ask", "default")),
        ([{"args": {"n": "3"}, "decide": "deny"}], "x", {"n": 3}, ("deny", "rule 1")),
        (
            [{"args": {"edits.*.path": "*.py"}, "decide": "deny"}],
            "x",
            {"edits": [{"path": "a.py"}]},
            ("deny", "rule 1"),
        ),
        ([{"args": {"on": "true"}, "decide": "allow"}], "x", {"on": True}, ("allow", "rule 1")),
        ([{"args": {"command": "**"}, "decide": "allow"}], "x", {"command": "a; b\nc"}, ("allow", "rule 1")),
    ],
)
def test_the_most_restrictive_rule_that_fits_decides_in_any_order(
    made: list[Any], tool: str, args: Any, came: tuple[str, str]
) -> None:
    assert decided(rules(*made), tool, args) == came


def test_what_changes_nothing_is_allowed_where_no_rule_fits_and_a_batch_passes_on() -> None:
    options = ApprovalOptions()
    assert decided(options, "look", effect="pure") == ("allow", "pure")
    assert decided(ApprovalOptions(pure="ask"), "look", effect="pure") == ("ask", "pure")
    assert decided(options, "batch", owner="mode-standard", effect="idempotent") == ("allow", "passes on")
    assert decided(options, "batch", owner="evil") == ("ask", "default")
    assert decided(rules({"tool": "batch", "decide": "deny"}), "batch", owner="mode-standard") == ("deny", "rule 1")


def test_a_rule_may_wait_for_what_the_session_has_cost() -> None:
    options = rules({"decide": "allow"}, {"decide": "ask", "spent_above": 2.5, "name": "dear"})
    assert decided(options, "x", spent=2.4) == ("allow", "rule 1")
    assert decided(options, "x", spent=2.5) == ("ask", "dear")


@pytest.mark.parametrize(("decide", "came"), [("ask", "ask"), ("deny", "deny"), ("allow", "ask")])
def test_what_nobody_knows_the_price_of_may_have_cost_enough_to_ask_and_not_to_allow(decide: Any, came: str) -> None:
    """A model without a price had cost nothing, so the rule never asked."""
    options = rules({"decide": decide, "spent_above": 2.5, "name": "dear"})
    assert decided(options, "x", spent=2.4, at_least=True)[0] == came
    assert decided(options, "x", spent=2.5, at_least=True)[0] == decide


# ---- what no pattern lets through -----------------------------------------------------------------------------------

ESCAPES = {
    "shell-semicolon": (GIT, "shell", {"command": "git status; rm -rf /"}),
    "shell-newline": (GIT, "shell", {"command": "git status\nrm -rf /"}),
    "shell-carriage-return": (GIT, "shell", {"command": "git status\rrm -rf /"}),
    "shell-line-separator": (GIT, "shell", {"command": "git status\u2028rm"}),
    "shell-nul": (GIT, "shell", {"command": "git status\0rm"}),
    "shell-pipe": (GIT, "shell", {"command": "git status | sh"}),
    "shell-and": (GIT, "shell", {"command": "git status && rm x"}),
    "shell-background": (GIT, "shell", {"command": "git status & rm x"}),
    "shell-substitution": (GIT, "shell", {"command": "git status $(rm x)"}),
    "shell-backquote": (GIT, "shell", {"command": "git status `rm x`"}),
    "shell-redirect": (GIT, "shell", {"command": "git status > /etc/passwd"}),
    "shell-prefix": (GIT, "shell", {"command": "rm x; git status"}),
    "shell-blank-before": (GIT, "shell", {"command": " git status"}),
    "shell-wide-letters": (GIT, "shell", {"command": "ｇit status"}),
    "shell-case": (GIT, "shell", {"command": "GIT status"}),
    "argument-behind-a-nameless-one": (GIT, "shell", {"command": "rm -rf /", "": {"command": "git status"}}),
    "argument-before-a-nameless-one": (GIT, "shell", {"": {"command": "git status"}, "command": "git status"}),
    "argument-besides": (GIT, "shell", {"command": "git status", "env": {"PATH": "/tmp"}}),
    "argument-missing": (GIT, "shell", {}),
    "argument-list": (GIT, "shell", {"command": ["git status", "rm"]}),
    "argument-nested": (GIT, "shell", {"command": {"command": "git status"}}),
    "argument-with-a-dot": ({"args": {"a.b": "1"}, "decide": "allow"}, "x", {"a.b": 1}),
    "tool-case": (READ, "Read_file", {}),
    "tool-wide": (READ, "ｒead_file", {}),
    "tool-blank": (READ, " read_file", {}),
    "tool-invisible": (READ, "re\u200bad_file", {}),
    "tool-two-lines": ({"tool": "read", "decide": "allow"}, "read\nwrite", {}),
    "path-up": (SRC, "write", {"path": "src/../secret"}),
    "path-up-in-the-middle": (SRC, "write", {"path": "src/a/../../x"}),
    "path-absolute": (SRC, "write", {"path": "/etc/passwd"}),
    "path-home": (SRC, "write", {"path": "~/.ssh/config"}),
    "path-url": (SRC, "write", {"path": "file:src/x"}),
    "path-encoded": (SRC, "write", {"path": "src/%2e%2e/x"}),
    "path-backslash": (SRC, "write", {"path": "src\\..\\x"}),
    "path-wide-dots": (SRC, "write", {"path": "src/．．/x"}),
    "path-nul": (SRC, "write", {"path": "src/a\0/../../x"}),
    "path-case": (SRC, "write", {"path": "SRC/x"}),
    "path-sibling": (SRC, "write", {"path": "src-other/x"}),
    "path-none": (SRC, "write", {}),
    "path-second": (SRC, "write", {"path": "src/a", "destination": "/etc/x"}),
    "path-in-a-list": (SRC, "write", {"paths": ["src/a", "/etc/x"]}),
    "path-argument-case": (SRC, "write", {"path": "src/a", "Destination": "/etc/x"}),
    "path-nested": (SRC, "write", {"path": "src/a", "more": {"file": "/etc/x"}}),
    "path-in-a-key": (SRC, "write", {"files": {"src/a": "x", "/etc/x.conf": "y"}}),
    "path-in-a-deep-key": (SRC, "write", {"path": "src/a", "folder": {"x": {"../secret": ""}}}),
    "path-by-the-last-word": (SRC, "write", {"path": "src/a", "output_file": "x"}),
    "path-by-the-last-word-in-camel-case": (SRC, "write", {"path": "src/a", "backupPath2": "x"}),
    "path-by-the-last-word-in-capitals": (SRC, "write", {"path": "src/a", "NEW-DIR": "x"}),
    "path-of-a-copy": (SRC, "write", {"from": "src/a", "to": "b"}),
    "path-of-a-move": (SRC, "write", {"from": "b", "to": "src/a"}),
    "path-by-its-look": (SRC, "write", {"path": "src/a", "backup": "/etc/x"}),
    "path-by-its-look-at-home": (SRC, "write", {"path": "src/a", "backup": "~/.bashrc"}),
    "path-by-its-look-upwards": (SRC, "write", {"path": "src/a", "backup": ["../x"]}),
    "path-by-its-look-upwards-later": (SRC, "write", {"path": "src/a", "backup": "./a/../../x"}),
    "path-by-its-look-upwards-elsewhere": (SRC, "write", {"path": "src/a", "backup": "a\\..\\..\\x"}),
    "path-by-a-wide-name": (SRC, "write", {"path": "src/a", "Ｐath": "b"}),
    "path-by-a-name-of-several": (SRC, "write", {"path": "src/a", "backupDirs": ["b"]}),
    "path-by-its-look-in-a-url": (SRC, "write", {"path": "src/a", "backup": "FILE:///etc/x"}),
    "path-by-its-look-with-blanks": (SRC, "write", {"path": "src/a", "backup": " /etc/x\n"}),
    "path-by-its-look-of-a-drive": (SRC, "write", {"path": "src/a", "backup": "c:\\x"}),
    "path-with-a-variable": (SRC, "write", {"path": "src/$OLDPWD/x"}),
    "path-with-a-command": (SRC, "write", {"path": "src/$(echo ..)/x"}),
    "path-with-backquotes": (SRC, "write", {"path": "src/`echo ..`/x"}),
    "path-with-braces": (SRC, "write", {"path": "src/{a,../../etc}"}),
    "path-encoded-in-capitals": (SRC, "write", {"path": "src/%2E%2E/x"}),
    "path-behind-a-blank": (ALL, "write", {"path": " /etc/passwd"}),
    "path-upwards-behind-a-blank": (ALL, "write", {"path": "\t../x"}),
    "path-in-quotes": (ALL, "write", {"path": "'/etc/passwd'"}),
    "path-in-quotes-and-blanks": (ALL, "write", {"path": ' "~/.bashrc" '}),
    "path-in-quotes-in-part": (SRC, "write", {"path": 'src/".."/x'}),
    "path-in-quotes-on-the-way": (SRC, "write", {"path": "src/'..'/x"}),
    "path-of-a-file-of-arguments": (ALL, "write", {"path": "@/etc/passwd"}),
    "path-of-such-a-file-below": (SRC, "write", {"path": "src/a", "file": "@x"}),
    "path-of-an-option": (ALL, "write", {"path": "-I/etc"}),
    "path-of-a-long-option": (ALL, "write", {"path": "--file=/etc/passwd"}),
    "path-that-is-an-option": (ALL, "write", {"path": "-rf"}),
    "path-that-ends-in-a-blank": (SRC, "write", {"path": "src/a "}),
    "path-behind-what-is-invisible": (ALL, "write", {"path": "\u200b/etc/passwd"}),
    "path-behind-an-encoded-blank": (ALL, "write", {"path": "%20/etc/passwd"}),
    "path-by-its-look-behind-a-blank": (ALL, "write", {"path": "a", "backup": " /etc/x"}),
    "path-by-its-look-in-quotes": (ALL, "write", {"path": "a", "backup": "'../x'"}),
    "path-by-its-look-behind-what-is-invisible": (ALL, "write", {"path": "a", "backup": "\u2060/etc/x"}),
    "path-symlink": (SRC, "write", {"path": "src/link/x"}),
    "path-symlink-and-up": (SRC, "write", {"path": "src/link/../x"}),
}


@pytest.mark.parametrize("attack", ESCAPES)
def test_what_is_allowed_is_read_narrowly(attack: str, tmp_path: Path) -> None:
    """Each of these looks like something that a rule allows, and isn't; so a person is asked."""
    rule, tool, args = ESCAPES[attack]
    (tmp_path / "src").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "src" / "link").symlink_to(tmp_path / "elsewhere")
    assert decided(rules(rule, root=str(tmp_path)), tool, args) == ("ask", "default")


EVASIONS = {
    "case": (RM, "shell", {"command": "RM -rf x"}),
    "wide": (RM, "shell", {"command": "ｒｍ -rf x"}),
    "blanks": (RM, "shell", {"command": "rm\t\n -rf x"}),
    "invisible": (RM, "shell", {"command": "r\u200bm -rf x"}),
    "soft-hyphen": (RM, "shell", {"command": "r\u00adm -rf x"}),
    "behind-something": (RM, "shell", {"command": "true; rm -rf x"}),
    "in-a-list": ({**RM, "args": {"command.*": "rm*"}}, "shell", {"command": ["sudo", "rm x"]}),
    "as-words": (RM, "shell", {"command": ["rm", "-rf", "x"]}),
    "as-words-that-end": ({**RM, "args": {"command": "rm -rf*"}}, "shell", {"command": ["rm", "-rf"]}),
    "as-words-of-another-command": (RM, "shell", {"command": ["sudo", "rm", "x"]}),
    "as-one-word": ({**RM, "args": {"command": "rm*"}}, "shell", {"command": ["true", "rm x"]}),
    "as-a-table": ({**RM, "args": {"command": "rm -rf*"}}, "shell", {"command": {"name": "rm", "args": ["-rf"]}}),
    "as-a-table-that-begins-with-its-end": (RM_RF, "shell", {"command": {"args": ["-rf"], "program": "rm"}}),
    "as-a-table-with-more": (
        RM_RF,
        "shell",
        {"command": {"cwd": "x", "args": ["-rf", "y"], "env": "a=b", "program": "rm"}},
    ),
    "as-a-table-within-a-table": (RM_RF, "shell", {"command": {"run": {"args": "-rf", "program": "rm"}, "cwd": "x"}}),
    "as-a-table-in-an-array": (RM_RF, "shell", {"command": [{"args": {"2": "-rf"}, "1": "rm"}]}),
    "as-a-table-with-numbers": (RM_RF, "shell", {"command": {"1": "-rf", "0": "rm"}}),
    "as-a-table-with-blank-members": (
        RM_RF,
        "shell",
        {"command": {**dict.fromkeys("abcdefgh", " "), "i": "-rf", "j": "rm"}},
    ),
    "as-a-table-that-is-named": (
        {**RM, "args": {"command.program": "rm"}},
        "shell",
        {"command": {**dict.fromkeys("abcdefgh", "x"), "program": "rm"}},
    ),
    "in-a-table": (RM, "shell", {"command": {"line": "rm x"}}),
    "within-another": (RM, "shell", {"input": {"command": "rm x"}}),
    "within-several": (RM, "shell", {"steps": [{"run": {"command": ["rm", "x"]}}]}),
    "argument-without-a-name": ({**RM, "args": {"*": "*rm *"}}, "shell", {"": "rm x"}),
    "argument-case": (RM, "shell", {"Command": "rm x"}),
    "argument-invisible": (RM, "shell", {"com\u200bmand": "rm x"}),
    "argument-with-a-dot": ({**RM, "args": {"run.command": "rm*"}}, "shell", {"run.command": "rm x"}),
    "words-among-blanks": (RM, "shell", {"command": ["rm ", "", " x"]}),
    "a-number-in-a-row": ({"args": {"n": "3"}, "decide": "deny", "name": "three"}, "x", {"n": [1, 3]}),
    "tool-case": (RM, "SHELL", {"command": "rm x"}),
    "tool-wide": (RM, "ｓhell", {"command": "rm x"}),
    "path-up": (SECRET, "read", {"path": "src/../secrets/key"}),
    "path-absolute": (SECRET, "read", {"path": "{root}/secrets/key"}),
    "path-dot": (SECRET, "read", {"path": "./secrets/./key"}),
    "path-case": (SECRET, "read", {"path": "Secrets/Key"}),
    "path-wide": (SECRET, "read", {"path": "ｓecrets/key"}),
    "path-symlink": (SECRET, "read", {"path": "src/door/key"}),
    "path-url": (SECRET, "read", {"path": "file://{root}/secrets/key"}),
    "path-itself": (SECRET, "list", {"folder": "secrets"}),
    "path-slashes": (SECRET, "read", {"path": "secrets//key"}),
    "path-deep": (SECRET, "edit", {"edits": [{"file": "secrets/key"}]}),
    "path-argument-in-camel-case": (SECRET, "read", {"filePath": "secrets/key"}),
    "path-nul": (SECRET, "read", {"path": "secrets/key\0.txt"}),
    "path-in-a-key": (SECRET, "read", {"files": {"secrets/key": {}}}),
    "path-encoded": (SECRET, "read", {"path": "secrets%2fk%65y"}),
    "path-in-a-url-without-slashes": (SECRET, "read", {"path": "file:secrets/key"}),
    "path-in-a-url-of-a-host": (SECRET, "read", {"path": "FILE://localhost{root}/secrets/key"}),
    "path-with-a-variable": (SECRET, "read", {"path": "$LASH_TEST_SECRETS/key"}),
    "path-behind-proc": (SECRET, "read", {"path": "/proc/self/root{root}/secrets/key"}),
    "path-of-another-system": (SECRET, "read", {"path": "src\\..\\secrets\\key"}),
    "path-by-the-last-word": (SECRET, "read", {"path": "src/a", "second_path": "secrets/key"}),
    "path-second": (SECRET, "read", {"path": "src/a", "source": "secrets/key"}),
    "path-by-its-look": (SECRET, "read", {"path": "src/a", "of": "{root}/secrets/key"}),
    "path-behind-a-blank": (ETC, "read", {"path": " /etc/passwd"}),
    "path-behind-a-line": (ETC, "read", {"path": "\n/etc/passwd\n"}),
    "path-behind-an-encoded-blank": (ETC, "read", {"path": "%20/etc/passwd"}),
    "path-in-quotes": (ETC, "read", {"path": "'/etc/passwd'"}),
    "path-in-quotes-in-part": (ETC, "read", {"path": '/"etc"/passwd'}),
    "path-in-quotes-and-blanks": (SECRET, "read", {"path": ' "secrets/key" '}),
    "path-upwards-behind-a-blank": (SECRET, "read", {"path": " ../{name}/secrets/key"}),
    "path-of-a-file-of-arguments": (ETC, "read", {"path": "@/etc/passwd"}),
    "path-of-a-file-of-arguments-in-quotes": (SECRET, "read", {"path": "@'secrets/key'"}),
    "path-of-an-option": (ETC, "read", {"path": "-I/etc"}),
    "path-of-an-option-with-a-blank": (SECRET, "read", {"path": "-d @secrets/key"}),
    "path-of-a-long-option": (SECRET, "read", {"path": "--file=secrets/key"}),
    "path-behind-what-is-invisible": (ETC, "read", {"path": "\u200b/etc/passwd"}),
    "path-upwards-with-what-is-invisible": (SECRET, "read", {"path": "src/.\u2060./secrets/key"}),
    "path-with-a-wide-slash": (ETC, "read", {"path": "／etc/passwd"}),
    "path-by-its-look-behind-a-blank": (ETC, "read", {"of": " /etc/passwd"}),
    "path-by-its-look-in-quotes": (ETC, "read", {"of": '"/etc/passwd"'}),
    "path-by-its-look-of-an-option": (ETC, "read", {"argv": ["cat", "--file=/etc/passwd"]}),
}


@pytest.mark.parametrize("attack", EVASIONS)
def test_what_is_denied_is_read_widely(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these is denied, however it is written."""
    monkeypatch.setenv("LASH_TEST_SECRETS", "secrets")
    rule, tool, args = EVASIONS[attack]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "door").symlink_to(tmp_path / "secrets")
    text = json.dumps(args, ensure_ascii=False).replace("{root}", str(tmp_path)).replace("{name}", tmp_path.name)
    allow = {"decide": "allow", "name": "all"}
    assert decided(rules(allow, rule, root=str(tmp_path)), tool, json.loads(text)) == ("deny", rule["name"])


def test_there_are_enough_rows() -> None:
    assert len(ESCAPES) >= 84
    assert len(EVASIONS) >= 70


# A link, by where it is below the folder and where it leads; the root and the pattern of a rule, and an argument.
LINKS = {
    "into-a-denied-folder": ("door", "vault", "", "vault/**", "door/key"),
    "into-it-from-above": ("door", "vault/sub", "", "vault/**", "door/key"),
    "by-two-links": ("door", "hall", "", "vault/**", "door/key"),
    "upwards-behind-a-link": ("door", "vault/sub", "", "vault/**", "door/../key"),
    "to-a-denied-file": ("door", "vault/key", "", "vault/key", "door"),
    "what-is-denied-is-a-link": ("secrets", "vault", "", "secrets/**", "vault/key"),
    "what-is-denied-is-a-link-to-a-file": ("secret", "vault/key", "", "secret", "vault/key"),
    "a-link-in-the-middle": ("a", "vault", "", "a/sub/**", "vault/sub/key"),
    "what-is-denied-is-behind-two-links": ("secrets", "hall", "", "secrets/**", "vault/key"),
    "the-link-between": ("door", "hall", "", "hall/**", "door/key"),
    "a-link-between-by-a-star": ("door", "hall", "", "h*ll/**", "door/key"),
    "the-root-is-a-link": ("root", ".", "root", "vault/**", "{at}/vault/key"),
    "the-root-is-a-link-and-the-argument-below-it": ("root", ".", "root", "vault/*.x", "{at}/vault/a.x"),
    "the-root-is-behind-a-link": ("out", ".", "out/vault", "key", "{at}/vault/key"),
    "a-star-behind-the-link": ("secrets", "vault", "", "secrets/*/key", "vault/sub/key"),
    "at-home": ("home", "vault", "", "~/**", "vault/key"),
    "at-home-by-its-link": ("home", "vault", "", "~/**", "home/key"),
    "a-home-that-the-argument-names": ("home", "vault", "", "vault/**", "~/key"),
}


@pytest.mark.parametrize("decide", ["ask", "deny"])
@pytest.mark.parametrize("case", LINKS)
def test_no_link_leads_past_a_rule(case: str, decide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule was held against a path as it is written, so whoever came by another way came past it."""
    link, target, root, pattern, path = LINKS[case]
    (tmp_path / "vault" / "sub").mkdir(parents=True)
    (tmp_path / "hall").symlink_to("vault")
    (tmp_path / link).symlink_to(tmp_path / target)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strict = {"decide": decide, "path": (pattern,), "name": "strict"}
    options = rules({"decide": "allow"}, strict, root=str(tmp_path / root))
    assert decided(options, "read", {"path": path.replace("{at}", str(tmp_path))}) == (decide, "strict")
    assert decided(options, "read", {"path": str(tmp_path / "elsewhere")}) == ("allow", "rule 1")


def test_a_link_in_a_pattern_allows_nothing_behind_it(tmp_path: Path) -> None:
    """Whoever may write in the project could make the link."""
    (tmp_path / "src").symlink_to("/etc")
    assert decided(rules(SRC, root=str(tmp_path)), "write", {"path": "src/passwd"}) == ("ask", "default")
    assert decided(rules(SRC, root=str(tmp_path)), "write", {"path": "/etc/passwd"}) == ("ask", "default")


def test_links_that_lead_round_and_round_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("c/c/c")
    options = rules({"decide": "allow"}, {**SECRET, "path": ("b/**", "c/**")}, root=str(tmp_path))
    assert decided(options, "read", {"path": "a/key"}) == ("allow", "rule 1")
    assert decided(options, "read", {"path": "c/key"}) == ("deny", "secret")


def test_who_nests_arguments_more_than_can_be_looked_at_is_called_for_none() -> None:
    deep: Any = "x"
    for _ in range(MOST_DEEP):
        deep = [deep]
    assert decided(rules({"decide": "allow"}), "x", {"a": deep}) == ("allow", "rule 1")
    assert decided(rules({"decide": "allow"}), "x", {"a": [deep]}) == ("deny", "too deep")


@pytest.mark.parametrize(
    ("most", "more"),
    [
        ({"a": ["x"] * MOST_LEAVES}, {"a": ["x"] * 100_000}),
        ({"a": {"x": ["y"] * MOST_LEAVES}}, {"a": [{"x": 1, "y": 2}] * MOST_LEAVES}),
        ({"k" * (MOST_NAMED // 10 - 2): list("abcdefghij")}, {"k" * (MOST_NAMED // 10): list("abcdefghijk")}),
        ({"k" * MOST_NAMED: 1}, {"k" * 1000: [1] * MOST_LEAVES}),
    ],
)
def test_who_has_more_arguments_than_can_be_looked_at_is_called_for_none(most: Any, more: Any) -> None:
    """A hundred thousand held the host for a second, and four thousand below a long name for minutes."""
    options = rules({"decide": "allow"}, {"args": {"b*": "*x"}, "decide": "deny"})
    assert decided(options, "x", most) == ("allow", "rule 1")
    assert decided(options, "x", more) == ("deny", "too many arguments")
    assert len(leaves(more)) <= MOST_LEAVES + 1


@pytest.mark.parametrize(("made", "args"), [
    ([SRC], {"path": "src/a", "content": "one\n/etc/passwd\n"}),
    ([SRC], {"paths": ["src/a", "src/b"], "mode": "644"}),
    ([SRC], {"from": "src/a", "to": "src/b"}),
    ([SRC], {"path": "src/a", "old_string": "a/b", "new_string": "a/../b"}),
    ([SRC], {"path": "src/[slug]/$id.$lang.tsx"}),
    ([{**SRC, "tool": "*"}], {"files": {"src/a": "src/b"}}),
    ([SRC], {"path": "src/Bob's notes - 2.md", "old_string": "</div>", "new_string": "'a' + \"/b\""}),
    ([SRC], {"path": "src/\u2764\ufe0f/@types/a-b=c.ts", "content": "-1/2"}),
])  # fmt: skip
def test_what_is_no_path_is_held_against_none(made: list[Any], args: Any, tmp_path: Path) -> None:
    assert decided(rules(*made, root=str(tmp_path)), "write", args) == ("allow", "src")


def test_who_names_more_paths_than_can_be_looked_at_is_called_for_none(tmp_path: Path) -> None:
    """Each costs a walk through the file system, in which the host does nothing else."""
    options = rules({"decide": "allow"}, root=str(tmp_path))
    assert decided(options, "x", {"paths": ["a"] * MOST_PLACES}) == ("allow", "rule 1")
    assert decided(options, "x", {"paths": ["a"] * MOST_LEAVES}) == ("deny", "too many paths")


UNSEEN = "\u034f\u115f\u1160\u17b4\u180b\u200b\u2800\u3164\ufe0f\uffa0\ufff0\U000e0100\U000e0fff\0\b\x1b\x7f\x9b"
"""Some of each kind: joiners, fillers, variation selectors, what is kept free for more of them, and controls."""


@pytest.mark.parametrize("unseen", UNSEEN, ids=lambda each: f"{ord(each):04x}")
def test_what_nobody_sees_leads_past_no_rule(unseen: str, tmp_path: Path) -> None:
    """Only what Unicode calls a format character was left out: U+200B was denied, and U+3164 was not."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "door").symlink_to("secrets")
    remove = {**RM, "args": {"command": "rm *"}}
    options = rules({"decide": "allow"}, remove, SECRET, root=str(tmp_path))
    for text in (f"r{unseen}m -rf x", f"{unseen}rm -rf x", f"rm{unseen} -rf x"):
        assert decided(options, "shell", {"command": text}) == ("deny", "rm")
        assert decided(options, "shell", {"command": text.split()}) == ("deny", "rm")
    assert decided(options, "shell", {f"comm{unseen}and": "rm x"}) == ("deny", "rm")
    for path in ("sec{}rets/key", "{}secrets/key", "src/.{}./secrets/key", "do{}or/key", "{}{root}/secrets/key"):
        args = {"path": path.replace("{root}", str(tmp_path)).replace("{}", unseen)}
        assert decided(options, "read", args) == ("deny", "secret")


@pytest.mark.parametrize("args", [["-rf", "rm"], ["echo", "rm", "-rf"], [["-rf"], "rm"]])
def test_the_words_of_an_array_stay_in_their_order(args: Any) -> None:
    assert decided(rules({"decide": "allow"}, RM_RF), "shell", {"command": args}) == ("allow", "rule 1")


@pytest.mark.parametrize("more", [{"f": "x"}, {"e": "x" * LONGEST_COMMAND}])
def test_a_table_that_is_large_is_read_in_its_own_order_only(more: dict[str, str]) -> None:
    """Each order costs a pass, and the members of a large one have more orders than anybody looks at."""
    options = rules({"decide": "allow"}, RM_RF)
    table = {**dict.fromkeys("abcde"[: MOST_MEMBERS - 2], "x"), "args": "-rf", "program": "rm"}
    assert decided(options, "shell", {"command": table}) == ("deny", "rm")
    assert decided(options, "shell", {"command": {**more, **table}}) == ("allow", "rule 1")
    assert decided(options, "shell", {"command": {"program": "rm", **table, **more}}) == ("allow", "rule 1")
    assert decided(options, "shell", {"command": {"program": "rm", "args": "-rf", **table, **more}}) == ("deny", "rm")


def test_what_nobody_sees_is_what_unicode_says() -> None:
    dropped = {each for each in map(chr, range(sys.maxunicode + 1)) if visible(each) == ""}
    controls = {each for each in map(chr, range(256)) if unicodedata.category(each) == "Cc" and not each.isspace()}
    formats = {each for each in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(each) == "Cf"}
    ignorable = 4174  # "Total code points" of Default_Ignorable_Code_Point
    shown = {each for each in dropped if each in "\u2800\u06dd\u070f\u08e2\ufff9\ufffa\ufffb\U000110bd\U000110cd"}
    shown |= {chr(each) for each in (*range(0x600, 0x606), 0x890, 0x891, *range(0x13430, 0x13440))}
    assert controls | formats | shown <= dropped
    assert len(dropped - controls - shown) == ignorable
    assert visible("a\tb\n\x85 c") == "a\tb\n\x85 c"


OWN = [
    "{own}",
    "{own}/{name}",
    "{own}/../APPROVALS/new.json",
    "l",
    "file://{own}/x",
    " {own}/x",
    "'{own}/x'",
    "-o{own}/x",
]


@pytest.mark.parametrize("path", OWN)
def test_nobody_writes_approvals_but_a_person(path: str, tmp_path: Path) -> None:
    """Whatever the rules say: a model that writes there would approve its own calls."""
    project.add(str(tmp_path), "tools", "x", {})
    own, name = project.kept_in(), project.file_of(str(tmp_path)).name
    (tmp_path / "l").symlink_to(own / name)
    options = rules({"decide": "allow"}, root=str(tmp_path))
    path = path.replace("{own}", str(own)).replace("{name}", name)
    assert decided(options, "write", {"path": path}) == ("deny", "own file")
    if path != "l":  # a link is followed where the argument is known to be a path
        assert decided(options, "write", {"what": [path]}) == ("deny", "own file")
    assert decided(options, "write", {"content": f"It is written to {path}."}) == ("allow", "rule 1")


@pytest.mark.parametrize("kind", ["state", "data"])
def test_nobody_trusts_a_file_or_answers_in_the_store_but_a_person(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the folder of approvals was nobody's to write; `project = false` opened that, too."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = rules({"decide": "allow"}, root=str(tmp_path), project=False)
    own = tmp_path / kind / "lash"
    for path in (own / "trusted" / "0.json", own / "lash.db", own, Path(kind, "LASH", "lash.db-wal")):
        assert decided(options, "write", {"path": str(path)}) == ("deny", "own file")
        assert decided(options, "move", {"what": [f"{tmp_path / path}"]}) == ("deny", "own file")
    assert decided(options, "write", {"path": str(own.with_name("lash2"))}) == ("allow", "rule 1")


def test_a_long_text_is_held_against_a_pattern_in_one_pass() -> None:
    """Four stars and 60 KB of what a model wrote took an hour, in which the host did nothing else."""
    for text, fit in [("rm-rf" * 12_000, False), ("rm-rf" * 12_000 + "/", True)]:
        assert fits("*rm*-rf*/*", text, narrow=False) is fit
        assert fits("*rm*-rf*/*", text, narrow=True) is fit
    assert not path_fits("/r/*a*b*a*b*c", "/r/" + "ab" * 2000, narrow=False)
    options = rules({"decide": "allow"}, SECRET, {**SRC, "tool": "*"})
    assert decided(options, "x", {"path": "secrets/" + "a/" * 30_000}) == ("deny", "secret")
    assert decided(options, "x", {"path": "a/../" * 30_000 + "secrets/key"}) == ("deny", "secret")
    assert decided(rules(SRC), "write", {"path": "src/" + "a/" * 30_000}) == ("ask", "default")
    assert decided(rules(SRC), "write", {"path": "{" * 500_000}) == ("ask", "default")


PATHOLOGICAL = {
    "folders-below-folders": ("/" + "**/a/" * 8 + "**/b", "/" + "a/" * 2000 + "c"),
    "double-stars": ("/" + "**a" * 12 + "**b", "/" + "a" * 4000 + "c"),
    "stars-in-names": ("/" + "*a" * 12 + "b", "/" + "a" * 4000 + "c"),
    "stars-of-both-kinds": ("/" + "*/**/*a" * 6 + "b", "/" + "a/" * 2000 + "c"),
    "marks-and-stars": ("/" + "?*" * 12 + "b", "/" + "a" * 4000 + "c"),
    "optional-ends": ("/**/" * 8 + "**", "/" + "a/" * 2000 + "c"),
    "random-letters": ("/" + "**ab*ba" * 6, "/" + "".join("ab"[at * at % 7 % 2] for at in range(4000))),
}


@pytest.mark.parametrize("attack", PATHOLOGICAL)
def test_no_pattern_makes_a_text_that_is_twice_as_long_cost_more_than_twice(attack: str) -> None:
    """Several `**` in a pattern of paths were tried out against each other: eight took longer than anybody waits.

    Each character costs a look-up, or a step over the pattern's places where that is not remembered yet.
    """
    pattern, text = PATHOLOGICAL[attack]
    for matcher in (path_matcher(pattern), text_matcher(pattern, narrow=True), text_matcher(pattern, narrow=False)):
        matcher.fits(text)
        assert matcher.steps <= len(text)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=12))
def test_patterns_fit_what_those_of_fnmatch_do(pattern: str, text: str) -> None:
    expected = fnmatchcase(text, pattern)
    assert fits(pattern, text, narrow=True) is expected
    assert fits(pattern, text, narrow=False) is expected


PIECES = st.sampled_from(["a", "b", "*", "?", ".", "/", "**", "**/"])


@given(st.lists(PIECES, max_size=8).map("".join), st.text("ab./", max_size=9))
def test_patterns_of_paths_fit_what_a_plain_reading_of_them_does(pattern: str, path: str) -> None:
    pieces = re.split(r"(/\*\*$|\*\*/|\*\*|\*|\?)", f"/{pattern}")
    plain = {"/**": "(?:/.*)?", "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expected = re.fullmatch("".join(plain.get(each, re.escape(each)) for each in pieces), f"/{path}") is not None
    assert path_fits(f"/{pattern}", f"/{path}", narrow=True) is expected
    assert path_fits(f"/{pattern}", f"/{path}", narrow=False) is expected


def test_a_call_is_the_same_only_with_the_same_arguments_of_the_same_plugins_tool() -> None:
    options = ApprovalOptions()
    digests = {
        facts(options, tool, args, owner=owner).digest
        for tool, args, owner in [
            ("x", {"a": 1}, "tools"),
            ("x", {"a": "1"}, "tools"),
            ("x", {"a": 1, "b": None}, "tools"),
            ("y", {"a": 1}, "tools"),
            ("x", {"a": 1}, "other"),
            ("x", {}, "tools"),
        ]
    }
    assert len(digests) == 6
    same = [facts(options, "x", args).digest for args in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    assert same[0] == same[1]


def test_a_pattern_is_no_regular_expression() -> None:
    assert not fits("a.c", "abc", narrow=True)
    assert fits("a[b]?", "a[b]x", narrow=True)
    assert not fits("(a)+", "aa", narrow=False)
