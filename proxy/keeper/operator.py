"""Describes for the audit log an operation requested over the admin socket, and its requester."""

import pwd
import socket
import struct
from typing import Any

from aiohttp import web

from proxy.records.audit_records import Operation

# struct ucred of unix(7): pid, uid, gid.
_CREDENTIALS = struct.Struct("3i")
_MOST_VALUES = 32


def operation_of(request: web.BaseRequest, values: dict[str, Any]) -> Operation:
    """Return the operation that *request* asks for, with the parameters *values*, over the Unix socket.

    The kernel reports the peer's user (SO_PEERCRED); `reason` in *values* is free text from that person.
    """
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float) and name != "reason"}
    return Operation(
        who=_user(request),
        proof="unix socket",
        what=f"{request.method} {request.path}",
        reason=str(values.get("reason", "")),
        values=tuple((name, str(value)) for name, value in list(plain.items())[:_MOST_VALUES]),
    )


def user_name(uid: int) -> str:
    """Return the system's user name for *uid*, or the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _user(request: web.BaseRequest) -> str:
    connection = request.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return ""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user_name(uid)
