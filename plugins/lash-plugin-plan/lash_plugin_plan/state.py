"""What the plugin is told, and what it remembers of a session. Imported whenever plugins are looked for: light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["PlanOptions", "PlanState", "Step"]


def _owned(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for each in value:
        if not all(each.partition(":")):
            text = f'`plugin.plan.allow` has {each!r}, and must say whose tool it is, as in "tools-web:{each or "*"}"'
            raise ValueError(f"{text}; `lash plugins why {each or 'NAME'}` knows")


@frozen(kw_only=True)
class PlanOptions:
    """`start`: new sessions begin in plan mode. `allow`: patterns of `plugin:tool` to let through, too."""

    start: bool = False
    allow: tuple[str, ...] = field(default=("mode-standard:batch",), validator=_owned)


@frozen
class Step:
    """A step of the plan; `status` is `pending`, `in_progress` or `completed`."""

    step: str
    status: str = "pending"


@frozen(kw_only=True)
class PlanState:
    """Whether plan mode is on (None: nobody has said), and the plan.

    `generation` counts how often it was switched, `guided` is the last one that the model was told of. `hidden` are the
    tools that were taken away, to be given back.
    """

    enabled: bool | None = None
    generation: int = 0
    guided: int = 0
    hidden: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    def switched(self, on: bool) -> PlanState:
        """The state with plan mode on, or off; itself if it is so."""
        from attrs import evolve

        return self if self.enabled is on else evolve(self, enabled=on, generation=self.generation + 1)
