"""What a configuration lacks where other people can log in to the machine."""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence

from proxy.checks.container import in_container
from proxy.settings.addresses import TcpAddress, listen_address
from proxy.settings.findings import Complaint, Severity
from proxy.settings.model import Settings

# As useradd and adduser have it; below are the accounts of services.
_FIRST_USER = 1000
_NOBODY = 65534
_NO_SHELLS = ("nologin", "false", "sync")
_NAMED = 3


def other_users(environ: Mapping[str, str]) -> list[str]:
    """Return the names of other people's accounts on this machine; none in a container, whose accounts nobody uses."""
    return [] if in_container(environ) else logins(pwd.getpwall(), own=os.getuid())


def logins(accounts: Iterable[pwd.struct_passwd], *, own: int) -> list[str]:
    """Return the names of those *accounts* that people log in with, without that of *own*, a user id.

    If there is only one in all, it is that of whoever runs the machine.
    """
    people = [
        one
        for one in accounts
        if one.pw_uid >= _FIRST_USER and one.pw_uid != _NOBODY and one.pw_shell.rpartition("/")[2] not in _NO_SHELLS
    ]
    return sorted(one.pw_name for one in people if one.pw_uid != own) if len(people) > 1 else []


def open_console(settings: Settings, users: Sequence[str]) -> Iterator[Complaint]:
    """Warn that *users* of this machine can read the request log through a console that asks for no sign-in.

    The sandbox has no payments that somebody else must not see.
    """
    admin = settings.admin
    address = listen_address(admin.listen) if admin.listen else None
    if not users or admin.operators or not admin.console or settings.environment == "mock":
        return
    if not isinstance(address, TcpAddress):
        return
    names = ", ".join(users[:_NAMED]) + (f" and {len(users) - _NAMED} more" if len(users) > _NAMED else "")
    yield Complaint(
        key=("admin", "operators"),
        what=f"without operators everybody on this machine can read the request log at http://{address}/console/, and "
        f"others can log in to it: {names}",
        fix="add operators (`payproxy admin hash-password NAME`), or set admin.console = false",
        severity=Severity.WARNING,
    )
