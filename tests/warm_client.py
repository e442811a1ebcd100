"""Asks a warm process (`warm.py`) for one that runs a command. As a program, `lash` or `python`, it is that process."""

import json
import os
import socket
import sys


def asked(address: str, command: list[str], cwd: str, env: dict[str, str], files: list[int], wait_s: float) -> int:
    """Run a command with these files as its stdin, stdout and stderr. The exit code, negative for a signal."""
    request = json.dumps({"command": command, "cwd": cwd, "env": env}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(wait_s)
        connection.connect(address)
        socket.send_fds(connection, [len(request).to_bytes(4, "big")], files)
        connection.sendall(request)
        answer = connection.recv(64)
    if not answer:
        raise RuntimeError(f"{command}: the warm process is gone")
    return int(answer)


if __name__ == "__main__":
    program, address, *arguments = sys.argv[1:]
    if program == "python" and not (arguments and arguments[0].endswith(".py")):
        os.execv(sys.executable, ["python", *arguments])
    here = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than all else here
    code = asked(address, [program, *arguments], here, dict(os.environ), [0, 1, 2], 60)
    sys.exit(code if code >= 0 else 128 - code)
