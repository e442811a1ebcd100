"""In which order plugins come, and which can't be there for lack of another. Pure functions over `PluginInfo`."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from lash_hookspecs.plugins import PluginInfo

__all__ = ["CycleError", "dependents_of_missing", "plugin_order"]


class CycleError(Exception):
    """Plugins that each want to come after the other. `members` are on a circle, in its order."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.members = members
        circle = " after ".join(f"`{each}`" for each in (*members, members[0]))
        super().__init__(f"their order is a circle: {circle}; change `after` in one of them")


def plugin_order(infos: Mapping[str, PluginInfo]) -> tuple[str, ...]:
    """The ids so that each comes after what it wants to come after, and otherwise sorted. Raises `CycleError`."""
    waits_for = {key: {each for each in info.after if each in infos} for key, info in infos.items()}
    followers: dict[str, list[str]] = {key: [] for key in infos}
    for key, before in waits_for.items():
        for each in before:
            followers[each].append(key)
    ready = [key for key, before in waits_for.items() if not before]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        key = heapq.heappop(ready)
        order.append(key)
        for follower in followers[key]:
            waits_for[follower].discard(key)
            if not waits_for[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(infos):
        raise CycleError(_circle({key: before for key, before in waits_for.items() if before}))
    return tuple(order)


def _circle(waits_for: Mapping[str, set[str]]) -> tuple[str, ...]:
    """One circle among plugins that all wait: go back until one comes up again."""
    path = [min(waits_for)]
    while True:
        before = min(waits_for[path[-1]])
        if before in path:
            return tuple(path[path.index(before) :])
        path.append(before)


def dependents_of_missing(infos: Mapping[str, PluginInfo]) -> dict[str, str]:
    """Each plugin that requires one which is not there, with the id of that; a replacement counts as being there."""
    there = set(infos).union(*(info.replaces for info in infos.values()))
    missing = {key: [each for each in info.requires if each not in there] for key, info in infos.items()}
    return {key: ids[0] for key, ids in missing.items() if ids}
