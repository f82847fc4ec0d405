"""The place that a sink writes to, as a text without secrets, to notice when it changes."""

from pathlib import Path
from urllib.parse import urlsplit

from proxy.secret import Secret


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
