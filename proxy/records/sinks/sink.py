"""The interface of a sink, as the shipper uses it, and the places that sinks write to: texts without secrets."""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from proxy.secret import Secret


class SinkUnavailable(OSError):
    """A sink can't take records now; the batch is offered again later."""


class Sink(Protocol):
    """A destination of records; an optional `target` identifies the place it writes to."""

    name: str

    async def write(self, batch: list[bytes]) -> None:
        """Take all of *batch*, JSON lines without line feed, or raise SinkUnavailable to get it again."""

    async def close(self) -> None:
        """Release all resources; a `write` in progress ends soon."""


def cause_of(error: Exception) -> str:
    """Return why a sink could not take a batch; anything but an OSError is a defect, reported without its text."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"a defect of the proxy: {type(error).__name__}"


def file_target(path: Path) -> str:
    """Return the target of a file, or of a set of month files."""
    return f"file:{path.absolute()}"


def postgres_target(url: Secret) -> str:
    """Return server and database of *url*: role and password may change."""
    try:
        split = urlsplit(url.reveal())
    except ValueError:
        return "postgresql:"
    return f"postgresql://{split.netloc.rpartition('@')[2]}{split.path}"
