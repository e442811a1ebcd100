"""What a hook is told when it is called: one `ctx`, bound to the plugin that implements the hook.

A context is two references: the call, shared by all implementations, and the plugin's own corner (`PluginScope`) of the
session. It holds nothing else: `binding` makes one per plugin. A turn's serve all of its calls, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import field

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.errors import PluginError
from lash_hookspecs.hook_services import Provide, ServiceUser, provided
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import SessionPolicy, TurnInput
from lash_hookspecs.tools import ToolManifest
from lash_hookspecs.values import frozen, mutable

if TYPE_CHECKING:
    pass

__all__ = [
    "CheckpointHookContext",
    "CompositionContext",
    "HookContext",
    "HostContext",
    "PluginScope",
    "SessionCall",
    "SessionHookContext",
    "StreamHookContext",
    "TurnCall",
    "TurnHookContext",
    "declared_state",
]

T = TypeVar("T")


@frozen(kw_only=True)
class HostContext(ServiceUser):
    """For `lash_lifespan`: the plugin's id and its options from `lash.toml` (`[plugin.<id>]`), as in `HookContext`."""

    plugin_id: str
    options: Any = field(factory=dict)


@frozen(kw_only=True)
class CompositionContext(ServiceUser):
    """For hooks that describe a mode's composition (`lash_tools`, `lash_tool_catalog`): no session is known here."""

    plugin_id: str
    mode_id: str
    options: Any = field(factory=dict)


_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@mutable(eq=False)
class PluginScope:
    """One plugin's corner of one session: what its lifespan yielded, its options, its state.

    `state` is an instance of the class that it declared, or None. It is replaced, never changed in place; observers,
    and hooks that may run at the same time, have it `read_only`.
    """

    plugin_id: str
    host: Any = None
    options: Any = _NO_OPTIONS
    state: Any = None
    state_type: type | None = None
    read_only: bool = False

    def reading(self) -> PluginScope:
        """The same corner, as it is now, for who only reads it."""
        return PluginScope(self.plugin_id, self.host, self.options, self.state, self.state_type, read_only=True)


class HookContext(ServiceUser):
    """What every hook of a session gets. Which services it has depends on the hook: see `SERVICES`."""

    __slots__ = ("_call", "_scope")
    _scope: PluginScope
    _call: SessionCall

    @property
    def plugin_id(self) -> str:
        """The plugin that is called."""
        return self._scope.plugin_id

    @property
    def host(self) -> Any:
        """What the plugin's `lash_lifespan` yielded; None without one."""
        return self._scope.host

    @property
    def options(self) -> Any:
        """The plugin's options: an instance of its class for them (`PluginInfo.options`), without one the table."""
        return self._scope.options

    @property
    def state(self) -> Any:
        """The plugin's session state, as declared through `lash_session_state`."""
        return self._scope.state

    def set_state(self, new: Any) -> None:
        """Replace the plugin's session state; it is stored with the turn, and taken back if the turn doesn't commit.

        Raises `PluginError` if the plugin declared no state, or `new` isn't of the very class that it declared.
        """
        hook = self._call.hook or "lash_session_state"  # of a call without one, such as a test's
        if self._scope.read_only:
            raise PluginError(self.plugin_id, hook, "this hook only reads the state")
        declared = self._scope.state_type
        if declared is None:
            text = "no session state is declared, so none is set: declare one with `lash_session_state`"
            raise PluginError(self.plugin_id, hook, text)
        if type(new) is not declared:  # of a subclass only what the declared class has would be read again
            text = f"the state must be a `{declared.__name__}`, not a `{type(new).__name__}`"
            raise PluginError(self.plugin_id, hook, text)
        self._scope.state = new

    def _service(self, name: str) -> Any:
        return provided(name, self._call.hook, self._call.services, self.plugin_id)


@mutable(kw_only=True, eq=False)
class SessionCall:
    """What a session-level call is about, shared by all implementations. `reason`: `created`, `opened`, `forked`.

    `hook` is the one that is called; `services` makes what it is given, if anything.
    """

    session_id: str
    mode_id: str
    policy: SessionPolicy
    turn_index: int = 0
    reason: str = ""
    hook: str = ""
    services: Provide | None = None


class SessionHookContext(HookContext):
    """For hooks outside a turn."""

    __slots__ = ()

    @property
    def session_id(self) -> str:
        """The session."""
        return self._call.session_id

    @property
    def mode_id(self) -> str:
        """The session's mode."""
        return self._call.mode_id

    @property
    def policy(self) -> SessionPolicy:
        """How the session runs."""
        return self._call.policy

    @property
    def turn_index(self) -> int:
        """How many turns were committed before."""
        return self._call.turn_index

    @property
    def reason(self) -> str:
        """For `lash_session_opened`: why it is called."""
        return self._call.reason


@mutable(kw_only=True, eq=False)
class TurnCall(SessionCall):
    """What a turn-level call is about: `hook`, `kind` and `tool` are brought up to date before each call.

    `moment` tells where the turn stands, `tools` what the model may call: most hooks ask for neither. `known` is what
    `moment` told in this call.
    """

    turn_id: str
    turn_input: TurnInput
    moment: Callable[[], tuple[int, Sequence[Message]]]
    tools: Callable[[], tuple[ToolManifest, ...]]
    owners: Callable[[], Mapping[str, str]] = dict
    known: tuple[int, Sequence[Message]] | None = None
    kind: CheckpointKind | None = None
    tool: Any = None
    edit_tools: Callable[..., None] | None = None

    def where(self) -> tuple[int, Sequence[Message]]:
        """The iteration, and the conversation."""
        if self.known is None:
            self.known = self.moment()
        return self.known


class TurnHookContext(SessionHookContext):
    """For hooks within a turn."""

    __slots__ = ()
    _call: TurnCall

    @property
    def turn_id(self) -> str:
        """The turn."""
        return self._call.turn_id

    @property
    def iteration(self) -> int:
        """The iteration, from 0: how often the model was asked before."""
        return self._call.where()[0]

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation as it stands, transient notes included."""
        return self._call.where()[1]

    @property
    def turn_input(self) -> TurnInput:
        """What the turn was started with."""
        return self._call.turn_input

    @property
    def tools(self) -> tuple[ToolManifest, ...]:
        """The tools that the model may call."""
        return self._call.tools()

    @property
    def tool_owners(self) -> Mapping[str, str]:
        """The plugin of each tool that there is, by its name, whether the model may call it or not."""
        return self._call.owners()

    def edit_tools(self, *, show: Iterable[str] = (), hide: Iterable[str] = ()) -> None:
        """Let the model call these tools or not, from its next request on, in this turn and the session's later ones.

        Stored with the turn, and taken back if it doesn't commit. Raises `PluginError` for an observer, and
        `ConfigurationError` for tools that nobody knows and those that can't be shown.
        """
        if self._scope.read_only or self._call.edit_tools is None:
            raise PluginError(self.plugin_id, self._call.hook, "an observer can't change the session's tools")
        self._call.edit_tools(self.plugin_id, show=show, hide=hide)

    def plugin_input(self, expected: type[T]) -> T | None:
        """The caller's typed input for this plugin; None if there is none, or it is of another type."""
        given = self._call.turn_input.context.plugin_inputs.get(self.plugin_id)
        return given if isinstance(given, expected) else None


class CheckpointHookContext(TurnHookContext):
    """For `lash_checkpoint`."""

    __slots__ = ()

    @property
    def kind(self) -> CheckpointKind:
        """Which checkpoint it is."""
        assert self._call.kind is not None  # set by whoever runs checkpoints
        return self._call.kind


class StreamHookContext(TurnHookContext):
    """For `lash_assistant_stream`. `memo` is the plugin's own for the pieces of one reply, and empty when it begins."""

    __slots__ = ("memo",)
    memo: dict[str, Any]


C = TypeVar("C", bound=HookContext)


def binding(context: type[C], scopes: Mapping[str, PluginScope], call: SessionCall) -> Callable[[str], C]:
    """From a plugin's id to its `context`, always the same one. A turn's contexts need a `TurnCall`."""
    contexts = {}
    for plugin_id, scope in scopes.items():
        ctx = contexts[plugin_id] = context()  # without an `__init__`, which would double the price
        ctx._scope = scope
        ctx._call = call
    return contexts.__getitem__


def declared_state(state_type: type) -> Any:
    """A plugin's first state. Raises `TypeError` if a field of the class has no default."""
    if not attrs.has(state_type):
        raise TypeError(f"session state `{state_type.__name__}` is no attrs class")
    return state_type()
