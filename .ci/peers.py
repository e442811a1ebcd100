"""Make both folders of independent programs that tests talk to, side by side: each waits for the network mostly.

Usage: peers.py FOLDER, in which `gateway` and `mcp-servers` are made.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gateway
import mcp_servers

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with ThreadPoolExecutor() as pool:
        made = [
            pool.submit(gateway.made, folder / "gateway", gateway.PACKAGES, gateway.NODE_PACKAGES),
            pool.submit(gateway.made, folder / "mcp-servers", mcp_servers.PACKAGES, mcp_servers.NODE_PACKAGES),
        ]
    for each in made:
        each.result()
