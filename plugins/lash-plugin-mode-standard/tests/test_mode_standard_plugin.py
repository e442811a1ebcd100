"""The plugin by itself: what it registers, and its driver's refusals."""

from __future__ import annotations

import pytest

from lash_hookspecs.errors import DriverError
from lash_hookspecs.testing.plugins import hooks_of
from lash_hookspecs.tools import ExecResponse
from lash_plugin_mode_standard import plugin
from lash_plugin_mode_standard.driver import StandardDriver


def test_its_hooks_are_hooks():
    """Every hook that the plugin implements is one of the contract's, with arguments that it offers."""
    assert hooks_of(plugin) == {"lash_plugin_info", "lash_modes", "lash_tools"}
    assert plugin.lash_plugin_info().id == "mode-standard"


def test_it_runs_no_code():
    """The mode never starts code, so it must not be asked about any."""
    with pytest.raises(DriverError, match="runs no code"):
        StandardDriver().handle_exec_result(None, ExecResponse(), None)
