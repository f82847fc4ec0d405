"""A command as another user, who sees mounts of its own: what a container and a systemd unit are to the kernel."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

# No machine has names for them.
USER, GROUP = 54321, 54321
# What such a command has to reach: the interpreter, what is installed, and the tree.
_NEEDED = tuple(dict.fromkeys(Path(one).resolve() for one in (sys.base_prefix, sys.prefix, Path(__file__).parents[2])))


def as_user(
    *command: str | Path,
    user: int = USER,
    group: int = GROUP,
    groups: Sequence[int] = (),
    read_only: Sequence[Path] = (),
) -> list[str]:
    """Return *command* as run by root for *user*, without any right of root's, with *read_only* mounted read-only."""
    mounts = [f"mount -o remount,bind,ro {shlex.quote(str(path))}" for path in read_only]
    shell = " && ".join([*_opened(), *mounts, 'exec setpriv "$@"'])
    who = [f"--reuid={user}", f"--regid={group}", *([f"--groups={','.join(map(str, groups))}"] if groups else [])]
    who += [] if groups else ["--clear-groups"]
    who += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh", *who, *map(str, command)]


def _opened() -> list[str]:
    """Return commands that put what is needed where others may reach it: /root, for one, is closed to them."""
    commands: list[str] = []
    for closed in sorted({one for path in _NEEDED for one in path.parents if not one.stat().st_mode & 0o001}):
        inside = [path for path in _NEEDED if closed in path.parents]
        commands.append("mount -t tmpfs -o mode=755 none /mnt")
        commands += [f"mkdir /mnt/{n} && mount --bind {path} /mnt/{n}" for n, path in enumerate(inside)]
        commands.append(f"mount -t tmpfs -o mode=755 none {closed}")
        commands += [f"mkdir -p {path} && mount --move /mnt/{n} {path}" for n, path in enumerate(inside)]
    return commands


def owned(path: Path, mode: int, *, user: int = 0, group: int = 0) -> None:
    """Give *path* to *user* and *group* with *mode*."""
    os.chown(path, user, group)
    path.chmod(mode)
