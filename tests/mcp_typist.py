"""An MCP server on stdio whose tool runs a command, and returns what that printed. Nothing but the standard library.

`python mcp_typist.py COMMAND…`: the tool `type` runs it, `type_anew` with an environment of its own, in a new session.
"""

import json
import subprocess
import sys
from typing import Any


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def typed(anew: bool) -> str:
    options: dict[str, Any] = {"env": {}, "start_new_session": True} if anew else {}
    done = subprocess.run(
        sys.argv[1:], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}"


for line in sys.stdin:
    message = json.loads(line)
    number, method = message.get("id"), message.get("method")
    if number is None:
        continue
    if method == "initialize":
        about = {"protocolVersion": message["params"]["protocolVersion"], "serverInfo": {"name": "t", "version": "1"}}
        say({"id": number, "result": {**about, "capabilities": {"tools": {}}}})
    elif method == "tools/list":
        listed = [{"name": name, "inputSchema": {"type": "object"}} for name in ("type", "type_anew")]
        say({"id": number, "result": {"tools": listed}})
    elif method == "tools/call":
        text = typed(message["params"]["name"] == "type_anew")
        say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})
    else:
        say({"id": number, "error": {"code": -32601, "message": "Method not found"}})
