"""Refuses files with code that others could replace: what they hold would sign, or get the PIN."""

import os
from pathlib import Path

from proxy import private_file
from proxy.credentials.keys import KeyUnusable


def refuse_replaceable(named: Path, *, danger: str) -> None:
    """Raise KeyUnusable unless only we and root can change the file *named*, or put another one in its place.

    It may be a link: then that holds for the link's directory too. *danger* says what others could do. Raises OSError
    if the file can't be found.
    """
    us, path = os.geteuid(), named.resolve(strict=True)
    status = path.stat()
    if status.st_uid not in {us, 0}:
        raise KeyUnusable(
            f"{path}: belongs to {private_file.user_name(status.st_uid)}, who could {danger}; `chown root {path}`"
        )
    if status.st_mode & 0o022:
        raise KeyUnusable(f"{path}: others may change it, and {danger}; `chmod go-w {path}`")
    for place in (path, named):
        if (exposed := private_file.directory_exposed(place.parent, us=us)) is not None:
            raise KeyUnusable(f"{place}: {exposed.what}; {exposed.fix}")
