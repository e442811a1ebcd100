"""An MCP server on stdio that can die, hang, and learn. `python mcp_mortal.py LOG` logs its start and its requests."""

import json
import sys
import time
from pathlib import Path
from typing import Any

LOG = Path(sys.argv[1])
tools = ["grow", "die", "leave", "hang", "slow"]


def log(line: str) -> None:
    with LOG.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(number: Any, params: dict[str, Any]) -> None:
    name = params["name"]
    words = f"called {name}"
    match name:
        case "grow" if "extra" not in tools:
            tools.append("extra")
            say({"method": "notifications/tools/list_changed"})
        case "die":
            sys.exit(1)
        case "hang":
            time.sleep(600)
        case "slow":
            for step in range(6):
                time.sleep(0.4)
                token = params["_meta"]["progressToken"]
                say({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
            words = "slow at last"
    say({"id": number, "result": {"content": [{"type": "text", "text": words}]}})
    if name == "leave":
        sys.exit(0)


log("started")
for line in sys.stdin:
    message = json.loads(line)
    number, method = message.get("id"), message.get("method")
    if number is None:
        continue
    if method == "initialize":
        about = {"protocolVersion": message["params"]["protocolVersion"], "serverInfo": {"name": "m", "version": "1"}}
        can = {"tools": {"listChanged": True}, "resources": {}, "prompts": {}}
        say({"id": number, "result": {**about, "capabilities": can}})
    elif method == "tools/list":
        log(method)
        say({"id": number, "result": {"tools": [{"name": each, "inputSchema": {"type": "object"}} for each in tools]}})
    elif method == "tools/call":
        call(number, message["params"])
    elif method == "resources/read":
        log(method)
        if message["params"]["uri"] == "mortal:die":
            sys.exit(1)
        say({"id": number, "result": {"contents": [{"uri": message["params"]["uri"], "text": "read"}]}})
    elif method == "prompts/list":
        say({"id": number, "result": {"prompts": [{"name": "greet"}]}})
    else:
        say({"id": number, "error": {"code": -32601, "message": "Method not found"}})
