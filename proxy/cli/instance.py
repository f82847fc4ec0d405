"""The running instance, as commands reach it: over admin.sock in its data directory, which only its user may open."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

# keeper/admin_server.py has the name too; importing the keeper would take longer than the call.
SOCKET_NAME = "admin.sock"

# An instance that needs longer for a line about itself is not well.
TIMEOUT_SECONDS = 5.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket; raises OSError if nobody listens."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def act(data_directory: Path, path: str, values: dict[str, Any]) -> dict[str, Any] | None:
    """Have the instance in *data_directory* do what *path* names; None if none runs or it can't be done."""
    connection = UnixConnection(str(data_directory / SOCKET_NAME))
    try:
        connection.request("POST", path, json.dumps(values), {"Host": "localhost", "Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        done = json.loads(body) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return done if isinstance(done, dict) else None
