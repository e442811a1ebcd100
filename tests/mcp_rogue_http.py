"""An MCP server of streamable HTTP on a socket of this machine, which misbehaves as the path of its URL says."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOOL = {"name": "add", "description": "Add.", "inputSchema": {"type": "object"}}

BESIDE: dict[str, Any] = {
    "resources/list": {"resources": [{"uri": "r:it", "name": "it"}]},
    "resources/templates/list": {"resourceTemplates": []},
    "resources/read": {"contents": [{"uri": "r:it", "text": "read"}]},
    "prompts/list": {"prompts": [{"name": "greet"}]},
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "hello"}}]},
}


class Service(ThreadingHTTPServer):
    """Counts what it is asked, by path and method, and keeps the headers of the last request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has hung up, as most of these tests have it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Where to get tokens is asked before there is one."""
        self.server.seen[f"GET {self.path}"] += 1
        url = self.server.url
        told: dict[str, Any] = {
            "/.well-known/oauth-protected-resource/guarded": {
                "resource": f"{url}/guarded",
                "authorization_servers": [url],
            },
            "/.well-known/oauth-authorization-server": {
                "issuer": url,
                "authorization_endpoint": f"{url}/authorize",
                "token_endpoint": f"{url}/token",
                "response_types_supported": ["code"],
            },
        }
        known = self.path in told
        self.body(200 if known else 405, json.dumps(told.get(self.path)).encode() if known else b"")

    def grant(self) -> None:
        """A token for who has the client's secret."""
        self.server.seen["token"] += 1
        self.rfile.read(int(self.headers["content-length"]))
        is_client = self.headers["authorization"] == "Basic " + base64.b64encode(b"me:client-secret").decode()
        token = {"access_token": "granted-token", "token_type": "Bearer", "expires_in": 3600}
        self.body(200 if is_client else 401, json.dumps(token if is_client else {"error": "invalid_client"}).encode())

    def do_DELETE(self) -> None:
        self.server.seen[f"{self.path} DELETE"] += 1
        self.body(200, b"")

    def do_POST(self) -> None:
        if self.path == "/token":
            self.grant()
            return
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method = message.get("method", "")
        self.server.seen[f"{self.path} {method}"] += 1
        self.server.headers = dict(self.headers)
        manner = self.path.strip("/")
        if manner == "guarded" and self.headers["authorization"] != "Bearer granted-token":
            where = f"{self.server.url}/.well-known/oauth-protected-resource/guarded"
            self.body(401, b"", **{"www-authenticate": f'Bearer resource_metadata="{where}"'})
            return
        if "id" not in message:
            self.body(202, b"")
        elif method == "initialize":
            self.initialize(manner, message)
        elif method == "tools/list":
            self.answer(message["id"], {"tools": [TOOL]})
        elif method == "tools/call":
            self.call(manner, message["id"])
        elif method in BESIDE:
            if manner == "forgets" and self.server.seen[f"{self.path} initialize"] == 1:
                self.body(404, b"no such session")
            else:
                self.answer(message["id"], BESIDE[method])
        elif manner == "dead-on-probe":
            self.body(500, b"")
        else:
            error = {"code": -32601, "message": "Method not found"}
            self.body(200, json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode())

    def initialize(self, manner: str, message: dict[str, Any]) -> None:
        match manner:
            case "status-500" | "status-401" | "status-403":
                self.body(int(manner[-3:]), b"<h1>no</h1>", kind="text/html")
            case "html":
                self.body(200, b"<html>Please log in</html>", kind="text/html")
            case "redirect-away":
                self.body(307, b"", Location="http://127.0.0.1:1/elsewhere?token=abcdef")
            case "redirect-within":
                self.body(307, b"", Location="/well")
            case "silent":
                self.server.stopped.wait(20)
            case "hangs-up":
                self.close_connection = True
            case _:
                can: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}}
                about = {"serverInfo": {"name": "r", "version": "1"}, "capabilities": can}
                about["protocolVersion"] = message["params"]["protocolVersion"]
                self.answer(message["id"], about, **{"mcp-session-id": f"s{self.server.seen.total()}"})

    def call(self, manner: str, number: Any) -> None:
        done = {"content": [{"type": "text", "text": "called add"}]}
        match manner:
            case "sse":
                self.stream(json.dumps({"jsonrpc": "2.0", "id": number, "result": done}))
            case "sse-wrong-id":
                self.stream(json.dumps({"jsonrpc": "2.0", "id": 99, "result": done}))
            case "sse-cut":
                self.stream(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}))
            case "sse-garbage":
                self.stream("}{")
            case "sse-huge":
                self.stream("x" * 3_000_000)
            case "sse-comments":
                self.stream(comments=True)
            case "call-500":
                self.body(500, b"oh")
            case "call-html":
                self.body(200, b"<html>", kind="text/html")
            case "call-202":
                self.body(202, b"")
            case "call-nothing":
                self.body(200, b"")
            case "call-garbage":
                self.body(200, b"}{")
            case "call-3-mb":
                self.body(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": {"x": "x" * 3_000_000}}).encode())
            case "call-bomb":
                self.body(200, gzip.compress(b" " * 30_000_000), **{"content-encoding": "gzip"})
            case "sse-bomb":
                data = json.dumps({"jsonrpc": "2.0", "id": number, "result": done})
                body = gzip.compress(b": on\n\n" * 1_000_000 + f"data: {data}\n\n".encode())
                self.body(200, body, kind="text/event-stream", **{"content-encoding": "gzip"})
            case "call-half":
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(b'{"jsonrpc"')
                self.close_connection = True
            case "forgets" if self.server.seen[f"{self.path} tools/call"] == 1:
                self.body(404, b"no such session")
            case "silent-in-the-call":
                self.server.stopped.wait(20)
            case _:
                self.answer(number, done)

    def answer(self, number: Any, result: Any, **headers: str) -> None:
        self.body(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode(), **headers)

    def stream(self, data: str = "", *, comments: bool = False) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        while comments and not self.server.stopped.wait(0.02):
            self.wfile.write(b": still here\n\n")
            self.wfile.flush()
        self.wfile.write(f"event: message\ndata: {data}\n\n".encode())
        self.close_connection = True

    def body(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.stopped.set()
        service.shutdown()
        service.server_close()
        thread.join()
