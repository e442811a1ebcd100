"""What Python says of a value that is made with the wrong arguments, in words that say what to write. Pure.

Python names a class's `__init__` and counts arguments. Who writes a first hook has to know which fields there are.
"""

from __future__ import annotations

import re
from importlib import import_module

__all__ = ["slip_text"]

_CALL = re.compile(r"(\w+)\.__init__\(\) (missing|takes|got an unexpected keyword argument '(\w+)')(.*)", re.DOTALL)
_QUOTED = re.compile(r"'(\w+)'")


def slip_text(error: BaseException) -> str | None:
    """What to write instead; None for all that is no slip at a value of the contract."""
    found = _CALL.fullmatch(str(error)) if type(error) is TypeError else None
    fields = _fields(found[1]) if found is not None else {}
    if found is None or not fields:
        return None
    needed = [f"{name}=…" for name, is_needed in fields.items() if is_needed]
    write = f"write `{found[1]}({', '.join(needed)})`"
    match found[2]:
        case "missing":
            lacks = " and ".join(f"`{name}`" for name in _QUOTED.findall(found[4]))
            return f"a `{found[1]}` was made without {lacks}: {write}"
        case "takes":
            return f"a `{found[1]}` was made with fields that have no name: {write}"
    return f"a `{found[1]}` has no `{found[3]}`, but {', '.join(f'`{name}`' for name in fields)}: {write}"


def _fields(name: str) -> dict[str, bool]:
    """The fields of a value of the contract, and whether they have to be given; none if it is none."""
    import attrs

    value = getattr(import_module("lash_hookspecs"), name, None)
    if not (isinstance(value, type) and attrs.has(value)):
        return {}
    return {each.name: each.default is attrs.NOTHING for each in attrs.fields(value) if each.init}
