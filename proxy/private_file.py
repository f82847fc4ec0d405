"""The only reader of files with a key, secret or password: checks the file that was opened.

Owner and mode are taken from the descriptor that is read, so that the file can't be swapped in between; a FIFO, a
device or a directory is refused, and none of them can block the caller.
"""

import errno
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# A PKCS#12 file with a 4096-bit key and a long chain is below 20 KiB.
MAX_FILE_BYTES = 65536
# Keys are stored as hex, base64 or bytes.
MAX_KEY_BYTES = 4096

_ROOT = 0


class FileUnusable(OSError):
    """A file can't be read or trusted; `strerror` has the reason, *fix* the remedy; neither shows the content."""

    def __init__(self, path: Path, what: str, fix: str, *, number: int = errno.EINVAL) -> None:
        super().__init__(number, f"{what}; {fix}", str(path))
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """The content of a regular file; *exposed* tells who else may have read or written it, None if nobody."""

    path: Path
    data: bytes
    exposed: FileUnusable | None

    def __repr__(self) -> str:
        return f"<OpenedFile {self.path}>"


def open_regular(path: Path) -> BinaryIO:
    """Open *path*, which need not be private, for reading; raises OSError, also for a FIFO.

    Opening a FIFO would block until another process writes to it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, *, most: int = MAX_FILE_BYTES) -> OpenedFile:
    """Return the content of *path*, private or not; raises FileUnusable, also if it has more than *most* bytes."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise FileUnusable(
            path, "no such file", "correct the path or put the file there", number=errno.ENOENT
        ) from None
    except PermissionError:
        raise FileUnusable(
            path, "this user may not read it", _give(path, us=os.geteuid()), number=errno.EACCES
        ) from None
    except (OSError, ValueError) as error:
        raise FileUnusable(path, f"can't be opened ({_reason(error)})", "correct the path") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnusable(path, "is not a regular file", "name the file itself")
        data = b""
        while len(data) <= most and (piece := os.read(descriptor, most + 1 - len(data))):
            data += piece
    except FileUnusable:
        raise
    except OSError as error:
        raise FileUnusable(path, f"can't be read ({_reason(error)})", "check the disk or mount") from None
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise FileUnusable(path, f"is larger than {most} bytes", "correct the path: it is another file")
    return OpenedFile(path=path, data=data, exposed=exposed(path, status, us=os.geteuid()))


def read_private_file(path: Path, *, most: int = MAX_FILE_BYTES, owner: int | None = None) -> bytes:
    """Return the content of *path*; raises FileUnusable as read_file does, and for a file that is not private.

    If we are root, the file may also belong to *owner*: the owner of the data directory that contains it.
    """
    opened = read_file(path, most=most)
    if opened.exposed is not None and (owner is None or not _private_of(path, owner)):
        raise opened.exposed
    return opened.data


def read_key(path: Path, *, fewest: int) -> bytes:
    """Return the key in *path* without a final line feed; raises FileUnusable, also if it is too short or too long."""
    key = read_private_file(path).removesuffix(b"\n")
    if not fewest <= len(key) <= MAX_KEY_BYTES:
        raise FileUnusable(
            path,
            f"it must hold {fewest} to {MAX_KEY_BYTES} bytes",
            f"make one: `openssl rand -hex 32 > {path}`, and `chmod 600 {path}`",
        )
    return key


def exposed(path: Path, status: os.stat_result, *, us: int) -> FileUnusable | None:
    """Return why a file of *status* is not private to the user *us*, None if it is.

    PostgreSQL's rule: our file without any right of group and others, or root's with at most read for the group, which
    is how Kubernetes (root:fsGroup 0440) and systemd (root, with an ACL whose mask shows as the group's rights) pass
    secrets to a user that is not root.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {us, _ROOT}:
        what = f"belongs to {user_name(status.st_uid)}, and payproxy runs as {user_name(us)}"
        return FileUnusable(path, what, _give(path, us=us), number=errno.EPERM)
    if not mode & (0o077 if status.st_uid == us else 0o037):
        return None
    fix = f"run `chmod 600 {path}`{'' if us else _mounted(us)}" if status.st_uid == us else _give(path, us=us)
    return FileUnusable(path, f"group or others may read it (mode {mode:04o})", fix, number=errno.EPERM)


def _give(path: Path, *, us: int) -> str:
    """Return how a file comes to be for the user *us* alone, in its place or where a platform mounts it."""
    return f"run as root `chown {_account(us)} {path} && chmod 600 {path}`{_mounted(us)}"


def _mounted(us: int) -> str:
    kubernetes, docker = (
        ("defaultMode 0440 and the pod's fsGroup", f"uid {us} and ") if us else ("defaultMode 0400", "")
    )
    return f" (in Kubernetes: {kubernetes}; in Docker: {docker}mode 0400 of the secret, in Compose of its source file)"


def directory_exposed(path: Path, *, us: int) -> FileUnusable | None:
    """Return why others could put files into the directory *path*, None if they can't or it does not exist.

    Root's may be group-writable, since Kubernetes offers a volume to a user that is not root in no other way.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {us, _ROOT}:
        what = f"{path} belongs to {user_name(status.st_uid)}, and payproxy runs as {user_name(us)}"
        fix = f"run as root `chown -R {_account(us)} {path}`, or run payproxy as {user_name(status.st_uid)}"
        return FileUnusable(path, what, fix, number=errno.EPERM)
    if mode & (0o022 if status.st_uid == us else 0o002):
        what = f"others may write in {path} (mode {mode:04o})"
        fix = (
            f"run `chmod 700 {path}`, or name a new directory in it: it is made with mode 0700 (Kubernetes changes the "
            "modes at each start of a pod with an fsGroup, unless fsGroupChangePolicy is OnRootMismatch)"
        )
        return FileUnusable(path, what, fix, number=errno.EPERM)
    return None


def directory_unusable(path: Path) -> FileUnusable | None:
    """Return why this process can't write in the directory *path*, or can't make it; None if it can."""
    # Not Path.exists, which raises PermissionError for what is in a directory that is closed to us.
    there = next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110
    if not there.is_dir():
        return FileUnusable(path, f"{there} is not a directory", "name another one, or remove it", number=errno.ENOTDIR)
    if os.access(there, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        return None
    account = _account(os.geteuid())
    if there != path:
        fix = f"make it as root: `install -d -o {account} -m 700 {path}`"
        return FileUnusable(path, f"{user_name(os.geteuid())} may not make {path}", fix, number=errno.EACCES)
    status = path.stat()
    what = f"{user_name(os.geteuid())} may not write in {path}, which belongs to {user_name(status.st_uid)}"
    if status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        what = f"{user_name(status.st_uid)} may not write in {path} (mode {stat.S_IMODE(status.st_mode):04o})"
        return FileUnusable(path, what, f"run `chmod 700 {path}`", number=errno.EACCES)
    fix = (
        f"run as root `chown -R {account} {path}`, for a mounted directory where it is mounted from (in Kubernetes: "
        "the pod's fsGroup), and mount it for reading and writing"
    )
    return FileUnusable(path, what, fix, number=errno.EACCES)


def user_name(number: int) -> str:
    """Return the name of the user *number* for a sentence, or `user NUMBER` if it has none."""
    account = _account(number)
    return f"user {account}" if account.isdecimal() else account


def _account(number: int) -> str:
    """Return what chown takes for the user *number*: the name, or the number if it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _private_of(path: Path, owner: int) -> bool:
    status = path.stat()
    return os.geteuid() == _ROOT and status.st_uid == owner and not status.st_mode & 0o077


def _reason(error: Exception) -> str:
    return (error.strerror or "input/output error").lower() if isinstance(error, OSError) else "the path is not valid"
