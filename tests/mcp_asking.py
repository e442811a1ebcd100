"""An MCP server on stdio that asks in the middle of a call. Nothing but the standard library.

`python mcp_asking.py legacy|modern LOG`: the old protocol asks over the connection, while the call waits; the new one
answers the call with its questions, and is called again. Each call, and each that was done, is a line in `LOG`.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

MODERN = sys.argv[1] == "modern"
LOG = Path(sys.argv[2])

FORM = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "Which size?",
        "requestedSchema": {"type": "object", "properties": {"size": {"type": "string"}}, "required": ["size"]},
    },
}
SAMPLE = {
    "method": "sampling/createMessage",
    "params": {
        "messages": [{"role": "user", "content": {"type": "text", "text": "A name?"}}],
        "systemPrompt": "Be brief.",
        "maxTokens": 20,
    },
}
OTHER = {
    "method": "sampling/createMessage",
    "params": {**SAMPLE["params"], "messages": [{"role": "user", "content": {"type": "text", "text": "Another?"}}]},
}
QUESTIONS = {"order": [FORM], "baptize": [SAMPLE], "christen": [SAMPLE, OTHER, FORM, SAMPLE]}
COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if MODERN else {}

numbers = itertools.count(1000)


def log(line: str) -> None:
    with LOG.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def done(name: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    answer = answers[-1]
    if name == "christen":
        log(f"done {name}")
        text = f"christened {', '.join(word(each) for each in answers)}"
    elif answer.get("action") == "accept":
        log(f"done {name}")
        text = f"ordered in {answer['content']['size']}"
    elif "content" in answer:
        log(f"done {name}")
        text = f"baptized {answer['content']['text']}"
    else:
        text = f"not done: {answer.get('action') or answer.get('message')}"
    return {"content": [{"type": "text", "text": text}], **COMPLETE}


def word(answer: dict[str, Any]) -> str:
    content = answer.get("content") or {}
    return str(content.get("size") or content.get("text") or answer.get("message") or answer.get("action"))


def call(number: Any, params: dict[str, Any]) -> None:
    name = params["name"]
    log(f"called {name}")
    answers = params.get("inputResponses") or {}
    questions = QUESTIONS[name] * params.get("arguments", {}).get("times", 1)
    if MODERN and not answers:
        requests = {f"q{at}": each for at, each in enumerate(questions)}
        asked = {"inputRequests": requests, "requestState": "opaque", "resultType": "input_required"}
        say({"id": number, "result": asked})
        return
    if MODERN:
        said = [answers[f"q{at}"] for at in range(len(questions))]
        say({"id": number, "result": done(name, said)})
        return
    said = []
    for each in questions:
        question = next(numbers)
        say({"id": question, **each})
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("id") == question:
                said.append(message.get("result") or message["error"])
                break
    say({"id": number, "result": done(name, said)})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if number is None:
            continue
        tools = {"tools": {}}
        if method == "server/discover" and MODERN:
            say({"id": number, "result": {"supportedVersions": ["2026-07-28"], "capabilities": tools, **COMPLETE}})
        elif method == "initialize":
            version = message["params"]["protocolVersion"]
            about = {"protocolVersion": version, "serverInfo": {"name": "asking", "version": "1"}}
            say({"id": number, "result": {**about, "capabilities": tools}})
        elif method == "tools/list":
            listed = [{"name": name, "inputSchema": {"type": "object"}} for name in QUESTIONS]
            say({"id": number, "result": {"tools": listed, **COMPLETE}})
        elif method == "tools/call":
            call(number, message["params"])
        else:
            say({"id": number, "error": {"code": -32601, "message": "Method not found"}})


if __name__ == "__main__":
    main()
