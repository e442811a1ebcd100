import os, signal, anyio
from pathlib import Path
from lash_hookspecs import tool, OnUnknown
@tool(on_unknown=OnUnknown.WAIT)
async def wait_long() -> str:
    """Never returns."""
    if Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "woke"
@tool
async def boom() -> str:
    """Bang."""
    if Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "boom"
