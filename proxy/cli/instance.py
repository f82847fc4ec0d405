"""Requests of commands to the running instance: over admin.sock in its data directory, which only its user may open."""

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.cli.output import ExitCode, Failure
from proxy.private_file import open_regular, user_name
from proxy.settings.salvage import data_directories as named_in
from proxy.settings.toml_text import MAX_FILE_BYTES

# A copy of the name in keeper/admin_server.py: importing the keeper would take longer than the call.
SOCKET_NAME = "admin.sock"
CONFIGURATION = "/api/configuration"
STATUS = "/api/status"
# A copy of the name in proxy/settings/sources.py: that import would take `health` longer than all the rest.
DATA_DIRECTORY = "payproxy-data"

# A healthy instance answers sooner.
TIMEOUT_SECONDS = 5.0
# A probe must say why it fails before it is ended from outside: after 3 s by the image's HEALTHCHECK.
PROBE_SECONDS = 2.0


class NotRunning(Failure):
    """No instance answers in this data directory."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=ExitCode.UNAVAILABLE)


class Denied(Failure):
    """The instance refuses with an HTTP *status*; the message says why."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket; raises OSError if nobody listens."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def data_directories(file: Path, *, first: Sequence[str] = (), environ: Mapping[str, str]) -> list[Path]:
    """Return possible data directories of the instance whose *file* has errors, the most likely first.

    These are *first*, the names that seem to be in the file, $STATE_DIRECTORY, and the default beside the file.
    """
    try:
        with open_regular(file) as stream:
            text = stream.read(MAX_FILE_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        text = ""
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    names = [*first, *named_in(text), *([state] if state else []), DATA_DIRECTORY]
    return list(dict.fromkeys(file.parent / name for name in names))


def answers(data_directory: Path) -> bool:
    """Return whether an instance listens in *data_directory*."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(data_directory / SOCKET_NAME))
        except BlockingIOError:  # it hangs: more connections wait than the system keeps
            return True
        except OSError:
            return False
    return True


def ask(
    data_directory: Path, path: str, values: dict[str, Any] | None = None, *, timeout: float = TIMEOUT_SECONDS
) -> dict[str, Any]:
    """Return the JSON answer of the instance in *data_directory* to a GET of *path*, or a POST of *values*.

    Each wait is at most *timeout* seconds long. Raises NotRunning, or Denied with the reason.
    """
    socket_path = data_directory / SOCKET_NAME
    connection = UnixConnection(str(socket_path), timeout=timeout)
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    try:
        if values is None:
            connection.request("GET", path, headers=headers)
        else:
            connection.request("POST", path, json.dumps(values), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotRunning(why_not(socket_path, error, seconds=TIMEOUT_SECONDS)) from None
    finally:
        connection.close()
    if not isinstance(body, dict):
        raise NotRunning(f"what answers on {socket_path} is not payproxy")
    if answer.status != 200:
        detail = str(body.get("detail", f"the instance answered {answer.status}"))
        raise Denied(detail, status=answer.status)
    return body


def why_not(socket_path: Path, error: Exception, *, seconds: float) -> str:
    """Return in words why nothing answered on *socket_path* within *seconds*: no permission, it hangs, or nobody."""
    if isinstance(error, PermissionError):
        return (
            f"{socket_path} is only for the user who runs the instance; "
            f"run the command as that user: `sudo -u {_owner(socket_path)} payproxy ...`"
        )
    if hangs(error):
        what = f"does not answer within {seconds:g} s" if isinstance(error, TimeoutError) else "takes no connection"
        return f"the instance on {socket_path} {what}: it hangs; see PayproxyDown in docs/operations.md"
    return f"no instance answers on {socket_path}; is `payproxy serve` running?"


def hangs(error: Exception) -> bool:
    """Return whether *error* says that somebody listens, who does not answer in time or takes no more connections."""
    return isinstance(error, TimeoutError | BlockingIOError)


def _owner(socket_path: Path) -> str:
    """Return the name of the user of the socket, or of the first folder above it that can be looked at."""
    for place in (socket_path, *socket_path.absolute().parents):
        with contextlib.suppress(OSError):
            return user_name(place.stat().st_uid)
    return "USER"
