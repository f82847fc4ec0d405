"""Detects replaced files by polling, since Kubernetes swaps symlinks and editors rename files."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Larger than any key, secret or CA bundle in use (the system's own has 0.2 MB).
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """State of a file: *mark* changes if it may have changed, *content* only if content, mode or owner did."""

    mark: tuple[int, ...]
    content: str


class FileWatch:
    """Watches groups of files that are replaced together; call `look` about every second, in a thread.

    A change is reported when a second `look` finds the same state, so that a file being written, or a certificate whose
    key follows a moment later, is complete. Contents are kept as SHA-256 only.
    """

    def __init__(self, groups: Mapping[str, Iterable[str]]) -> None:
        self._groups = {name: tuple(file for file in files if file) for name, files in groups.items()}
        self._looks: dict[str, _Look] = {}
        self._known = self._contents()
        self._coming: dict[str, tuple[str, ...]] = {}

    def look(self) -> list[str]:
        """Return the groups that have changed since they were last returned and are now stable."""
        changed = []
        for name, contents in self._contents().items():
            if contents == self._known[name]:
                self._coming.pop(name, None)
            elif self._coming.get(name) == contents:
                del self._coming[name]
                self._known[name] = contents
                changed.append(name)
            else:
                self._coming[name] = contents
        return changed

    def _contents(self) -> dict[str, tuple[str, ...]]:
        files = {file for group in self._groups.values() for file in group}
        self._looks = {file: _looked(file, self._looks.get(file)) for file in files}
        return {name: tuple(self._looks[file].content for file in group) for name, group in self._groups.items()}

    def __repr__(self) -> str:
        return f"<FileWatch {len(self._looks)} files in {len(self._groups)} groups, {len(self._coming)} changing>"


def _looked(file: str, before: _Look | None) -> _Look:
    """Return the state of *file*; read it only if its status differs from *before*."""
    try:
        status = os.stat(file)  # noqa: PTH116 - follows all links
        mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if before is not None and before.mark == mark:
            return before
        if not stat.S_ISREG(status.st_mode):
            return _Look(mark=mark, content="no file")
        # O_NONBLOCK: it may have become a FIFO.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:
            digest = hashlib.sha256(opened.read(_MOST_BYTES)).hexdigest()
    except OSError as error:
        return _Look(mark=(), content=f"error {error.errno}")
    return _Look(mark=mark, content=f"{stat.S_IMODE(status.st_mode):o} {status.st_uid} {digest}")
